"""The receiver of the dora dataflow; see compare.py."""

import json
import os
import time

import numpy as np
from dora import Node

WARM_UP = 100
kind, size = os.environ["KIND"], int(os.environ["BYTES"])
latencies, start, now = [], 0, 0
for event in Node():
    if event["type"] != "INPUT":
        continue
    array = event["value"].to_numpy(zero_copy_only=True)
    now = time.monotonic_ns()
    if len(latencies) == WARM_UP:
        start = now
    latencies.append(now - int(array[:8].view(np.int64)[0]))
measured = np.array(latencies[WARM_UP:]) / 1e3
seconds, messages = (now - start) / 1e9, len(measured)
result = {
    "engine": "dora", "kind": kind, "bytes": size, "messages": messages,
    "p50_us": float(np.median(measured)), "p99_us": float(np.quantile(measured, 0.99)),
    "messages_per_s": messages / seconds, "gb_per_s": messages * size / seconds / 1e9,
}
with open(os.environ["RESULT"], "w") as file:
    json.dump(result, file)
