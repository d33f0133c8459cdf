"""The sender of the dora dataflow; see compare.py."""

import os
import time

import numpy as np
import pyarrow as pa
from dora import Node

kind, size, count = os.environ["KIND"], int(os.environ["BYTES"]), int(os.environ["COUNT"])
node = Node()
payload = np.random.default_rng(1).integers(0, 255, size, np.uint8)
time.sleep(1.0)  # until the receiver is there: dora drops what comes before
for _ in range(count):
    array = payload.copy()
    array[:8].view(np.int64)[0] = time.monotonic_ns()
    node.send_output("data", pa.array(array))
    if kind == "latency":
        time.sleep(0.002)
