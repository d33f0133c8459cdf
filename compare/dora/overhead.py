"""What the Python layer costs, in one process: nanoseconds a call, the best of several rounds."""

import os
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

    print(f"view of a frame               {best_ns(lambda: frame.array):7.0f} ns")
    print(f"forward + receive             {best_ns(forward):7.0f} ns")
    print(f"loan + send + receive         {best_ns(loan_and_send):7.0f} ns")
    print(f"with loan + receive           {best_ns(loan):7.0f} ns")
    print(f"an empty call, for comparison {best_ns(lambda: None):7.0f} ns")
    del frame
