#!/usr/bin/env python3
"""Three sources at different rates, each its own process, aligned into one pandas DataFrame.

Run it from anywhere, after `pip install . pandas` in the repository: python3 examples/python/three_sources.py
"""

import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import millpond

NAMES = ("temperature", "pressure", "altitude")


@millpond.block
def readings(*, period_ms: float, first: float, step: float, count: int = 20) -> Iterator[NDArray[np.float64]]:
    """A sensor: one number after the other, at a steady pace, stamped when it is sent."""
    for i in range(count):
        yield np.array([first + i * step])
        time.sleep(period_ms / 1000)


def recorded(pond: millpond.Pond) -> list[tuple[list[int], list[float]]]:
    """The timestamps and values of each source, to the ends of their streams."""
    streams = []
    for port in [pond.input(f"desk.{name}") for name in NAMES]:
        stamps, values = [], []
        for frame in port:
            assert frame.stamp is not None
            stamps.append(frame.stamp.value)
            values.append(float(frame.array[0]))
        streams.append((stamps, values))
    return streams


def main() -> pd.DataFrame:
    """Runs the sources, and gives their values at the moments of the first."""
    graph = millpond.Flowgraph("three-sources")
    graph.block("temperature", readings, period_ms=20, first=20.0, step=0.1)
    graph.block("pressure", readings, period_ms=7, first=1013.0, step=-0.2, count=57)
    graph.block("altitude", readings, period_ms=31, first=100.0, step=2.0, count=13)
    with graph.start() as run:
        # Sources do not wait for receivers: what they send before this goes nowhere.
        for name in NAMES:
            run.pond.connect(f"{name}.out", f"desk.{name}")
        streams = recorded(run.pond)
        run.wait()
    moments, values = millpond.align_linear(streams, reference=0)
    return pd.DataFrame(values, index=pd.to_datetime(moments, unit="ns"), columns=list(NAMES))


if __name__ == "__main__":
    print(main().to_string())
