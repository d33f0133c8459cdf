"""Alignment of recorded events."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import DEADLINE_S

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


def test_linear_is_what_numpy_interpolates() -> None:
    random = np.random.default_rng(4)
    streams = [(np.unique(random.integers(0, 10**6, 300)), random.normal(size=300)) for _ in range(3)]
    streams = [(stamps, values[: len(stamps)]) for stamps, values in streams]
    moments, rows = millpond.align_linear(streams)
    assert moments.tolist() == streams[0][0].tolist()
    grid, on_grid = millpond.align_linear(streams, rate_hz=(10**9, 100), origin_ns=50)
    assert set(np.diff(grid)) == {100} and grid[0] % 100 == 50
    for at, table in ((moments, rows), (grid, on_grid)):
        for port, (stamps, values) in enumerate(streams):
            np.testing.assert_allclose(table[:, port], np.interp(at, stamps, values, np.nan, np.nan), rtol=1e-12, atol=1e-12)
    gappy = millpond.align_linear([([0, 50, 100], [0, 0, 0]), ([0, 100], [1, 2])], max_gap_ns=99)[1]
    assert gappy[0, 1] == 1 and np.isnan(gappy[1, 1]) and gappy[2, 1] == 2


def test_windows_are_what_numpy_counts() -> None:
    random = np.random.default_rng(5)
    stamps = [np.unique(random.integers(-5000, 5000, 200)) for _ in range(2)]
    streams = [(of_stream, random.normal(size=len(of_stream))) for of_stream in stamps]
    windows = millpond.align_window(streams, size_ns=300, slide_ns=100, origin_ns=7)
    assert len(windows.start_ns) > 90 and set((windows.start_ns - 7) % 100) == {0}
    for row, start in enumerate(windows.start_ns):
        for port, (at, values) in enumerate(streams):
            inside = values[(at >= start) & (at < start + 300)]
            assert windows.count[row, port] == len(inside)
            if len(inside):
                np.testing.assert_allclose(windows.mean[row, port], inside.mean(), rtol=1e-12)
                assert windows.min[row, port] == inside.min() and windows.max[row, port] == inside.max()
                assert windows.last[row, port] == inside[-1]
            else:
                assert np.isnan(windows.mean[row, port])


def test_refusals_of_values() -> None:
    with pytest.raises(ValueError, match="stream 1: expected a value for each of the 2 timestamps, found 1"):
        millpond.align_linear([([1], [1]), ([1, 2], [1])])
    with pytest.raises(ValueError, match="stream 0: expected different timestamps, found 3 twice"):
        millpond.align_window([([3, 3], [1, 2])], size_ns=5)
    with pytest.raises(ValueError, match="rate_hz"):
        millpond.align_linear([([1], [1])], rate_hz=(0, 1))
    with pytest.raises(ValueError, match="size_ns"):
        millpond.align_window([([1], [1])], size_ns=0)
    with pytest.raises(ValueError, match="reference: expected 0 to 0, found 1"):
        millpond.align_linear([([1], [1])], reference=1)


def test_the_example_with_three_sources() -> None:
    example = Path(__file__).parents[3] / "examples" / "python" / "three_sources.py"
    table = subprocess.check_output([sys.executable, example], text=True, timeout=DEADLINE_S)
    header, *rows = table.splitlines()
    assert header.split() == ["temperature", "pressure", "altitude"]
    temperatures = [float(row.split()[2]) for row in rows]
    assert temperatures and all(round(b - a, 6) == 0.1 for a, b in zip(temperatures, temperatures[1:], strict=False))
    pressures = [float(row.split()[3]) for row in rows]
    known = [pressure for pressure in pressures if pressure == pressure]
    assert known and known == sorted(known, reverse=True)
