"""Alignment of recorded events."""

import numpy as np
import pytest

import millpond


def test_nearest_is_what_a_plain_search_finds() -> None:
    random = np.random.default_rng(3)
    reference, other = (np.unique(random.integers(0, 10**6, 500)) for _ in range(2))
    rows = millpond.align([reference, other], policy="nearest", tolerance_ns=400)
    distances = np.abs(other[None, :] - reference[:, None])
    nearest = np.where(distances.min(axis=1) <= 400, distances.argmin(axis=1), -1)
    assert rows[:, 0].tolist() == list(range(len(reference)))
    np.testing.assert_array_equal(rows[:, 1], nearest)
    # The order within a stream does not matter.
    again = millpond.align([reference, other[::-1]], policy="nearest", tolerance_ns=400)
    np.testing.assert_array_equal(np.where(again[:, 1] < 0, -1, len(other) - 1 - again[:, 1]), nearest)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="policy: expected"):
        millpond.align([[1]], policy="closest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reference: expected 0 to 0, found 1"):
        millpond.align([[1]], reference=1)
    with pytest.raises(ValueError, match="events: expected 1 to 64 streams"):
        millpond.align([])
    assert millpond.align([[], []]).shape == (0, 2)
