"""Millpond's half of the comparison with dora: a Python sender and a Python receiver, two processes.

python millpond_pair.py latency|throughput BYTES COUNT [WAIT] prints one JSON object.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np

import millpond

WARM_UP = 100


def send(kind: str, name: str, size: int, count: int) -> None:
    out = millpond.Pond.attach(name).output("sender.out")
    # 8 bytes more hold the moment of sending, taken after the payload was filled.
    payload = np.random.default_rng(1).integers(0, 255, size, np.uint8)
    for _ in range(count + WARM_UP):
        with out.loan(size) as array:
            array[:] = payload
            array[:8].view(np.int64)[0] = time.monotonic_ns()
        if kind == "latency":
            time.sleep(0.002)
    out.close()


def receive(kind: str, size: int, count: int, wait: str) -> dict[str, object]:
    name = f"pair-{os.getpid()}"
    with millpond.Pond.create(name) as pond:
        pond.connect("sender.out", "receiver.in", depth=64)
        port = pond.input("receiver.in", wait=wait)
        command = [sys.executable, __file__, "send", kind, name, str(size), str(count)]
        sender = subprocess.Popen(command)
        latencies, start, received = [], 0, 0
        for frame in port:
            array = frame.array
            now = time.monotonic_ns()
            if received == WARM_UP:
                start = now
            latencies.append(now - int(array[:8].view(np.int64)[0]))
            received += 1
        seconds = (time.monotonic_ns() - start) / 1e9
        sender.wait(60)
        del frame, array
    measured = np.array(latencies[WARM_UP:]) / 1e3
    messages = received - WARM_UP
    return {
        "engine": "millpond", "kind": kind, "bytes": size, "messages": messages,
        "p50_us": float(np.median(measured)), "p99_us": float(np.quantile(measured, 0.99)),
        "messages_per_s": messages / seconds, "gb_per_s": messages * size / seconds / 1e9,
    }


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        wait = sys.argv[4] if len(sys.argv) > 4 else "adaptive"
        print(json.dumps(receive(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), wait)))
