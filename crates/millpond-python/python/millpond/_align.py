"""Alignment in time of recorded events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from millpond import _millpond


def align(
    events: Sequence[ArrayLike],
    *,
    policy: Literal["exact", "nearest", "approximate"] = "nearest",
    tolerance_ns: int | None = None,
    reference: int = 0,
) -> NDArray[np.int64]:
    """Says which events of several streams belong to one moment.

    `events` are the timestamps of each stream, in nanoseconds. A row of the result is a set: the index of its event in every
    stream. `"exact"`: all within `tolerance_ns` (0 by default), the largest possible number of sets. `"nearest"`: for each event
    of the stream `reference` the nearest ones of the others, at most `tolerance_ns` away (`None`: however far), -1 where there is
    none. `"approximate"`: close together though never equal, spanning at most `tolerance_ns`. Of equal timestamps in one stream
    the first counts.

    >>> align([[1000, 2000, 3000], [1010, 2500, 2990]], policy="nearest", tolerance_ns=50)
    array([[ 0,  0],
           [ 1, -1],
           [ 2,  2]])
    >>> align([[1000, 2000, 3000], [1010, 2500, 2990]], policy="exact", tolerance_ns=10).tolist()
    [[0, 0], [2, 2]]
    """
    stamps = [np.asarray(stream, np.int64).ravel().tolist() for stream in events]
    rows = _millpond._align(stamps, policy, tolerance_ns, reference)
    return np.array(rows, np.int64).reshape(len(rows), len(stamps))


def align_linear(
    streams: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    reference: int = 0,
    rate_hz: tuple[int, int] | None = None,
    origin_ns: int = 0,
    max_gap_ns: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The values of several streams at common moments, on straight lines between their neighbours in time.

    Each stream is its timestamps in nanoseconds, all different, and a number for each. The moments are those of the stream
    `reference`, or with `rate_hz` (numerator and denominator) a grid at that rate with one moment at `origin_ns`, from the
    first event of any stream to the last. Gives the moments and an array of a row for each, a column for each stream; NaN where a
    stream has nothing: before its first and after its last event, and between two more than `max_gap_ns` apart.

    >>> align_linear([([0, 10, 20], [1, 2, 3]), ([5, 15], [100, 200])])
    (array([ 0, 10, 20]), array([[  1.,  nan],
           [  2., 150.],
           [  3.,  nan]]))
    """
    grid = None if rate_hz is None else (origin_ns, *rate_hz)
    moments, rows = _millpond._align_linear(_numbers(streams), reference, grid, max_gap_ns)
    return np.array(moments, np.int64), np.array(rows, np.float64).reshape(len(rows), len(streams))


@dataclass(frozen=True)
class Windows:
    """Statistics over spans of time: arrays with a row for each window that has events, in all but `start_ns` a column for each stream.

    Where a stream has no event in a window, `count` and `sum` are 0, `min` and `max` the infinities, `mean` and `last` NaN.
    """

    start_ns: NDArray[np.int64]
    count: NDArray[np.int64]
    sum: NDArray[np.float64]
    mean: NDArray[np.float64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    last: NDArray[np.float64]


def align_window(
    streams: Sequence[tuple[ArrayLike, ArrayLike]], *, size_ns: int, slide_ns: int | None = None, origin_ns: int = 0
) -> Windows:
    """Statistics of several streams over the windows `[start, start + size_ns)`, one every `slide_ns` (by default `size_ns`).

    Streams are as for `align_linear`. One window starts at `origin_ns`.

    >>> windows = align_window([([0, 1, 10], [1, 2, 3]), ([5], [100])], size_ns=10)
    >>> windows.start_ns.tolist(), windows.count.tolist(), windows.mean.tolist()
    ([0, 10], [[2, 1], [1, 0]], [[1.5, 100.0], [3.0, nan]])
    """
    starts, rows = _millpond._align_window(_numbers(streams), size_ns, size_ns if slide_ns is None else slide_ns, origin_ns)
    table = np.array(rows, np.float64).reshape(len(rows), len(streams), 5)
    count, total = table[:, :, 0].astype(np.int64), table[:, :, 1]
    mean = np.full_like(total, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return Windows(np.array(starts, np.int64), count, total, mean, table[:, :, 2], table[:, :, 3], table[:, :, 4])


def _numbers(streams: Sequence[tuple[ArrayLike, ArrayLike]]) -> list[tuple[list[int], list[float]]]:
    return [
        (np.asarray(stamps, np.int64).ravel().tolist(), np.asarray(values, np.float64).ravel().tolist())
        for stamps, values in streams
    ]
