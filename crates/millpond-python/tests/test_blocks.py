"""Blocks written in Python: declared by annotations, called alone, run as processes beside Rust ones."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import DEADLINE_S, Children, end, start, used_buffers, wait_until
from numpy.typing import NDArray

import millpond
from millpond import Frame, Pond, Timestamp
from millpond._blocks import _describe, _Port, _Worker

PROGRAM = '''
import logging
from collections.abc import Iterator
from typing import NamedTuple
import numpy as np
from numpy.typing import NDArray
import millpond

@millpond.block
def ramp(*, count: int = 5) -> Iterator[NDArray[np.float32]]:
    """Counts up."""
    for i in range(count):
        yield np.full(4, i, np.float32)

@millpond.block
def halve(samples: NDArray[np.float32], *, factor: float = 0.5) -> NDArray[np.float32]:
    return samples * np.float32(factor)

class Parts(NamedTuple):
    small: NDArray[np.float32] | None
    large: millpond.Frame | None

@millpond.block
def split(samples: millpond.Frame, *, limit: float) -> Parts:
    """Small ones are doubled, large ones go on as they are."""
    array = samples.array
    return Parts(array * np.float32(2), None) if array.max() < limit else Parts(None, samples)

@millpond.block
class RunningSum:
    """Adds up what comes."""
    def __init__(self, *, start: int = 0) -> None:
        self.sum = float(start)
    def work(self, samples: NDArray[np.float32]) -> None:
        self.sum += float(samples.sum())
        logging.getLogger("sum").warning("at %s", self.sum)
    def finish(self) -> NDArray[np.float64]:
        return np.array([self.sum])

@millpond.block
def fail(samples: NDArray[np.float32], *, at: int = 2) -> NDArray[np.float32]:
    if samples[0] == at:
        raise ValueError("what a number")
    return samples

if __name__ == "__main__":
    millpond.main()
'''


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "filters.py"
    path.write_text(PROGRAM.replace("def work(self, samples: NDArray[np.float32]) -> None:", "def work(self, samples: NDArray[np.float32]) -> NDArray[np.float64] | None:"))
    return path


def test_a_chain_of_processes(pond: Pond, children: Children, program: Path) -> None:
    for connection in (("ramp.out", "halve.samples"), ("halve.out", "sum.samples"), ("sum.out", "test.sum"), ("halve.out", "test.halves")):
        pond.connect(*connection)
    halves, total = pond.input("test.halves"), pond.input("test.sum")
    running = [
        start(children, program, pond, "running-sum", "sum", "start=100"),
        start(children, program, pond, "halve", "halve", "factor=0.25"),
        start(children, program, pond, "ramp", "ramp", "count=4"),
    ]
    frames = list(halves)
    assert [frame.array.tolist() for frame in frames] == [[i / 4] * 4 for i in range(4)]
    assert all(frame.stamp is not None and frame.stamp.kind == "absolute" for frame in frames)
    assert [frame.array.tolist() for frame in total] == [[106.0]]
    for child in running:
        assert end(child) == (0, "")
    told = {block["name"]: block["counters"] for block in pond.inspect()["blocks"] if block["pid"] or block["block_type"]}
    assert {"ramp", "halve", "sum"} <= set(told)
    del frames
    wait_until(lambda: used_buffers(pond) == 0, "the buffers")


def test_several_outputs_and_frames_that_go_on_without_a_copy(pond: Pond, children: Children, program: Path) -> None:
    pond.connect("test.out", "split.samples")
    pond.connect("split.small", "test.small")
    pond.connect("split.large", "test.large")
    out, small, large = pond.output("test.out", dtype="f4"), pond.input("test.small"), pond.input("test.large")
    child = start(children, program, pond, "split", "split", "limit=10")
    out.send(np.array([1, 2], "f4"), stamp=Timestamp.relative(5))
    out.send(np.array([11, 2], "f4"), stamp=Timestamp.sample(6, 48000))
    out.close()
    doubled, same = small.receive(timeout=DEADLINE_S), large.receive(timeout=DEADLINE_S)
    assert (doubled.array.tolist(), doubled.stamp) == ([2, 4], Timestamp.relative(5))
    assert (same.array.tolist(), same.stamp) == ([11, 2], Timestamp.sample(6, 48000))
    assert list(small) == list(large) == []
    assert end(child) == (0, "")


def test_an_exception_is_the_failure_of_the_block_and_a_restart_goes_on(pond: Pond, children: Children, program: Path) -> None:
    pond.connect("ramp.out", "fail.samples")
    pond.connect("fail.out", "test.in")
    port = pond.input("test.in")
    failing = start(children, program, pond, "fail", "fail")
    source = start(children, program, pond, "ramp", "ramp")
    code, errors = end(failing)
    assert code == 1
    assert 'raise ValueError("what a number")' in errors and "in fail" in errors
    assert "failed: ValueError: what a number\n" in errors
    assert end(source) == (0, "")
    # What it had taken is lost with it; the rest waits for its successor.
    start(children, program, pond, "fail", "fail")
    got: list[float] = []
    with pytest.raises(millpond.SenderDiedError):
        got.extend(float(frame.array[0]) for frame in port)
    got.extend(float(frame.array[0]) for frame in port)
    assert got == [0, 1, 3, 4]


def test_a_killed_block_leaves_nothing_and_its_successor_goes_on(pond: Pond, children: Children, program: Path) -> None:
    pond.connect("test.out", "halve.samples")
    pond.connect("halve.out", "test.in")
    out, port = pond.output("test.out", dtype="f4"), pond.input("test.in")
    child = start(children, program, pond, "halve", "halve")
    out.send(np.ones(2, "f4"))
    assert port.receive(timeout=DEADLINE_S).array.tolist() == [0.5, 0.5]
    children.kill(child)
    with pytest.raises(millpond.SenderDiedError):
        port.receive(timeout=DEADLINE_S)
    wait_until(lambda: used_buffers(pond) == 0, "the recovery")
    out.send(np.full(2, 3, "f4"))
    start(children, program, pond, "halve", "halve", "factor=2")
    assert port.receive(timeout=DEADLINE_S).array.tolist() == [6, 6]


def test_a_pipeline_file_with_rust_and_python_blocks(runtime_dir: Path) -> None:
    root = Path(__file__).parents[3]
    table = root / "loudest.csv"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [str(root / "target" / "debug" / "millpond"), "run", "examples/python/detector.toml"]
    try:
        subprocess.run(command, cwd=root, env=environment, timeout=DEADLINE_S, check=True, capture_output=True)
        rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    finally:
        table.unlink(missing_ok=True)
    assert len(rows) == 2 and all(439 < float(frequency) < 441 for _, frequency in rows)


def test_what_a_program_says_about_its_blocks(program: Path) -> None:
    said = json.loads(subprocess.check_output([sys.executable, str(program), "blocks", "--json"], text=True))
    types = {block["type"]: block for block in said["blocks"]}
    assert list(types) == ["ramp", "halve", "split", "running-sum", "fail"]
    assert types["ramp"]["doc"] == "Counts up"
    def ports(block: str, which: str) -> list[tuple[str, list[str], str | None]]:
        return [(port["name"], port["dtypes"], port.get("like")) for port in types[block][which]]

    assert ports("halve", "inputs") == [("samples", ["f32"], None)]
    assert ports("split", "outputs") == [("small", ["f32"], None), ("large", [], "samples")]
    assert ports("running-sum", "outputs") == [("out", ["f64"], None)]
    (factor,) = types["halve"]["params"]
    assert (factor["kind"], factor["default"], factor["fixed"]) == ("float", 0.5, False)


def test_wrong_parameters_are_refused(pond: Pond, children: Children, program: Path) -> None:
    code, errors = end(start(children, program, pond, "split", "split"))
    assert code == 1 and "`split` needs the parameter `limit`" in errors
    code, errors = end(start(children, program, pond, "halv", "x"))
    assert code == 1 and "did you mean `halve`?" in errors


def test_blocks_run_alone() -> None:
    @millpond.block
    def scale(samples: NDArray[np.float32], *, factor: float = 2.0) -> NDArray[np.float32]:
        return samples * np.float32(factor)

    assert scale(np.ones(2, np.float32), factor=3).tolist() == [3, 3]


def test_refused_declarations() -> None:
    def bare(samples) -> None: ...  # type: ignore[no-untyped-def]
    def odd(samples: int) -> None: ...
    def worse(samples: NDArray[np.float32], *, k: complex) -> None: ...
    def no_dtype() -> Iterator[NDArray[Any]]:
        yield np.zeros(1)

    class NoWork: ...

    for target, problem in (
        (bare, "input `samples` needs an annotation"),
        (odd, "port `samples`: expected NDArray"),
        (worse, "parameter `k`: expected bool, int, float, str, Literal of strings, list"),
        (no_dtype, "port `out`: expected NDArray"),
        (NoWork, "a class needs a method `work`"),
    ):
        with pytest.raises(TypeError, match=problem):
            _describe(target)


def test_a_result_of_another_type_than_annotated_is_refused() -> None:
    def wrong() -> Iterator[NDArray[np.float32]]:
        yield np.zeros(3)  # type: ignore[misc]

    described = _describe(wrong)
    assert described.returned == [_Port("out", "float32")]
    worker = described.make()
    assert isinstance(worker, _Worker)
    with pytest.raises(TypeError, match="output `out`: expected float32 as annotated, found float64"):
        worker.work()


class Pair(NamedTuple):
    a: Frame
    b: NDArray[np.int16]


def test_outputs_of_a_tuple_are_ports() -> None:
    def pair(samples: NDArray[np.complex64]) -> Pair: ...  # type: ignore[empty-body]

    described = _describe(pair)
    assert described.returned == [_Port("a", None), _Port("b", "int16")]
    assert described.inputs == [_Port("samples", "complex64")]
    assert [port.get("like") for port in described.spec["outputs"]] == ["samples", None]
