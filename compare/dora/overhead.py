"""What the Python layer costs, in one process: nanoseconds a call, the best of several rounds. `--json` for programs."""

import json
import os
import sys
import timeit

import numpy as np

import millpond

with millpond.Pond.create(f"overhead-{os.getpid()}") as pond:
    pond.connect("a.out", "b.in")
    out, port = pond.output("a.out"), pond.input("b.in")
    out.send(np.zeros(8))
    frame = port.receive()

    def best_ns(action) -> float:  # type: ignore[no-untyped-def]
        return min(timeit.repeat(action, number=20_000, repeat=7)) / 20_000 * 1e9

    def loan() -> None:
        with out.loan(8, "f8"):
            pass
        port.try_receive()

    def loan_and_send() -> None:
        out.send(out.loan(8, "f8"))
        port.try_receive()

    def forward() -> None:
        global frame
        out.send(frame)
        frame = port.try_receive()

    costs = {
        "view of a frame": best_ns(lambda: frame.array),
        "forward + receive": best_ns(forward),
        "loan + send + receive": best_ns(loan_and_send),
        "with loan + receive": best_ns(loan),
        "an empty call": best_ns(lambda: None),
    }
    del frame
if sys.argv[1:] == ["--json"]:
    print(json.dumps(costs))
else:
    for name, ns in costs.items():
        print(f"{name:24} {ns:7.0f} ns")
