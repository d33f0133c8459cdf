"""What streams are: the rate, dtype and shape that outputs state, keep and hold to."""

import importlib.util
import sys
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DEADLINE_S
from numpy.typing import NDArray

import millpond
from millpond import BlockFailedError, Flowgraph, Frame, Out, Pond
from millpond._blocks import _describe


@millpond.block
def format_halve(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return samples * np.float32(0.5)


@millpond.block
def format_in_place(samples: Frame, out: Out[np.float32]) -> None:
    with out.loan(samples) as array:
        array *= 2


def _thinner(rate: Fraction | None, *, by: int) -> Fraction | None:
    return None if rate is None else rate / by


@millpond.block(rate_hz=_thinner)
class FormatThin:
    def __init__(self, *, by: int = 4) -> None:
        self.by = by

    def work(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return samples[:: self.by]


@millpond.block(rate_hz=8000, shape=(None, 2))
def format_stereo(*, columns: int = 2) -> Iterator[NDArray[np.float32]]:
    yield np.zeros((10, columns), np.float32)


def _run(line: dict[str, Any], path: Path | None = None) -> None:
    graph = Flowgraph("formats")
    for name, (block_type, params) in line.items():
        graph.block(name, block_type, **params)
    graph.block("sink", "wav-sink", path=str(path))
    graph.connect(" -> ".join([*line, "sink"]))
    graph.run_here()


def _wav(path: Path) -> tuple[int, int, int]:
    # `wave` reads no floats before Python 3.12, so the integers are stored.
    header = path.read_bytes()[:44]

    def number(at: int, size: int) -> int:
        return int.from_bytes(header[at : at + size], "little")

    return number(24, 4), number(22, 2), number(34, 2)


def test_a_block_keeps_the_rate_and_the_description_of_its_stream(tmp_path: Path) -> None:
    source = tmp_path / "source.wav"
    with wave.open(str(source), "wb") as file:
        file.setparams((1, 2, 22_050, 0, "NONE", ""))
        file.writeframes(np.arange(100, dtype=np.int16).tobytes())
    path = tmp_path / "out.wav"
    # 16 bits are what the source's description says.
    _run({"source": ("wav-source", {"path": str(source)}), "half": (format_halve, {}), "twice": (format_in_place, {})}, path)
    assert _wav(path) == (22_050, 1, 16)


def test_a_block_states_another_rate(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    _run({"tone": ("signal", {"rate_hz": 48_000, "count": 3}), "thin": (FormatThin, {"by": 3})}, path)
    assert _wav(path)[:2] == (16_000, 1)
    _run({"noise": (format_stereo, {})}, path)
    assert _wav(path)[:2] == (8000, 2)


def test_a_stated_shape_is_held_to(tmp_path: Path) -> None:
    with pytest.raises(BlockFailedError, match=r"port `noise.out`: expected f32 \[any, 2\], found a buffer of f32 \[10, 3\]"):
        _run({"noise": (format_stereo, {"columns": 3})}, tmp_path / "never.wav")


def test_rates_that_are_none() -> None:
    def source() -> Iterator[NDArray[np.float32]]:
        yield np.zeros(1, np.float32)

    for rate, found in ((48_000, (48_000, 1)), ((30_000, 1001), (30_000, 1001)), (0.5, (1, 2)), (None, (7, 1)), (lambda rate: rate * 2, (14, 1))):
        assert _describe(source, rate).make().rate_hz((7, 1)) == found
    for wrong in (0, -1, (1, 0), float("nan"), 2**40, "fast"):
        with pytest.raises(ValueError, match="block source: rate_hz: expected a number of Hz"):
            _describe(source, wrong).make().rate_hz(None)  # type: ignore[arg-type]


def test_an_output_holds_to_what_it_states(pond: Pond) -> None:
    pond.connect("stated.out", "viewer.in")
    pond.connect("other.out", "stated.in")
    out, port = pond.output("stated.out", dtype="float32", shape=(None, 2)), pond.input("viewer.in")
    stated = r"output `stated.out`: expected float32 \(None, 2\), as stated when it was opened, found "
    with pytest.raises(TypeError, match=stated + r"int64 \(4,\)"):
        out.send(np.full(4, 1))
    with pytest.raises(TypeError, match=stated + r"float32 \(4, 3\)"):
        out.loan((4, 3))
    other, inward = pond.output("other.out"), pond.input("stated.in")
    for again in (lambda frame: out.send(frame), lambda frame: out.loan(frame)):
        other.send(np.zeros((4, 2)))
        frame = inward.receive(timeout=DEADLINE_S)
        with pytest.raises(TypeError, match=stated + r"float64 \(4, 2\)"):
            again(frame)
        assert frame.array.shape == (4, 2), "it is still there"
    # What has no dtype of its own gets the stated one.
    out.send([[1, 2], [3, 4]])
    with out.loan((1, 2)) as array:
        array[:] = 7
    first, second = port.receive(timeout=DEADLINE_S), port.receive(timeout=DEADLINE_S)
    assert first.array.dtype == second.array.dtype == np.float32
    assert first.array.tolist() == [[1, 2], [3, 4]] and second.array.tolist() == [[7, 7]]


LOOP = '''
from numpy.typing import NDArray
import numpy as np
import millpond

@millpond.block
def take_back(samples: NDArray[np.float32] | None, back: NDArray[np.float32] | None = None) -> NDArray[np.float32] | None:
    """Sends on what comes; what comes back ends here."""
    return samples

@millpond.block
def pass_on(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return samples
'''


def test_a_feedback_loop_ends_when_its_source_does(tmp_path: Path) -> None:
    path = tmp_path / "format_loop.py"
    path.write_text(LOOP)
    spec = importlib.util.spec_from_file_location("format_loop", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["format_loop"] = module
    spec.loader.exec_module(module)
    graph = Flowgraph("formats-loop")
    graph.block("tone", "signal")
    graph.block("pace", "throttle", rate_hz=48_000)
    graph.block("mix", module.take_back)
    graph.block("on", module.pass_on)
    graph.connect("tone -> pace -> mix.samples")
    graph.connect("mix.out -> on.samples")
    graph.connect("on.out -> mix.back")
    graph.duration(0.2)
    with graph.start() as run:
        end = run.wait(timeout=DEADLINE_S)
    assert end is not None and end.reason == "its time is over"
    assert end.statistics.connection("on.out", "mix.back").taken > 0


def test_a_cycle_that_cannot_start_is_refused() -> None:
    graph = Flowgraph("formats-cycle")
    graph.block("a", "gain")
    graph.block("b", "gain")
    graph.connect("a -> b -> a")
    with pytest.raises(millpond.FlowgraphError, match="the cycle a -> b -> a can never start"):
        graph.check()
