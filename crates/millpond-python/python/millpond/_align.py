"""Alignment in time of recorded events."""

from collections.abc import Sequence
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
