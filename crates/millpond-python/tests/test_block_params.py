"""Parameters of Python blocks while they run: read, set, refused, kept over a kill."""

import json
import subprocess
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from conftest import DEADLINE_S, Children, end, start, wait_until
from numpy.typing import NDArray

import millpond
from millpond import Param, Pond
from millpond._blocks import _describe

PROGRAM = '''
from collections.abc import Iterator
from typing import Annotated
import numpy as np
from numpy.typing import NDArray
import millpond
from millpond import Param

@millpond.block
def scale(samples: NDArray[np.float32], *, factor: Annotated[float, Param(min=0, max=10, unit="V")] = 0.5) -> NDArray[np.float32]:
    return samples * np.float32(factor)

@millpond.block
class Lookup:
    """Has a table for each even number."""
    def __init__(self, *, number: int = 2, path: str = "a") -> None:
        self.number = number
        self._path = path

    @property
    def number(self) -> int:
        return self._number

    @number.setter
    def number(self, number: int) -> None:
        if number % 2:
            raise ValueError(f"{number} is odd")
        self._number, self.table = number, [number] * 3

    def work(self, samples: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.array([self.number, *self.table])

@millpond.block
def ramp(*, step: float = 1.0) -> Iterator[NDArray[np.float64]]:
    i = 0
    while True:
        yield np.array([i * step])
        i += 1

if __name__ == "__main__":
    millpond.main()
'''
CLI = Path(__file__).parents[3] / "target" / "debug" / "millpond"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "set.py"
    path.write_text(PROGRAM)
    return path


def cli(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([CLI, *arguments], capture_output=True, text=True, timeout=DEADLINE_S)
    return done.returncode, done.stdout + done.stderr


class Bench:
    """A block in its own process between two ports of the test."""

    def __init__(self, pond: Pond, children: Children, program: Path, block_type: str) -> None:
        pond.connect("test.out", "block.samples")
        pond.connect("block.out", "test.in")
        self.pond, self.children, self.program, self.block_type = pond, children, program, block_type
        self.out, self.port = pond.output("test.out", dtype="f4"), pond.input("test.in")
        self.child = start(children, program, pond, block_type, "block")

    def work(self) -> list[float]:
        self.out.send(np.ones(1, "f4"))
        return [float(x) for x in self.port.receive(timeout=DEADLINE_S).array]

    def start_again(self) -> None:
        self.children.kill(self.child)
        with pytest.raises(millpond.SenderDiedError):
            self.port.receive(timeout=DEADLINE_S)
        self.child = start(self.children, self.program, self.pond, self.block_type, "block")

    def value(self, name: str) -> str:
        (param,) = [param for param in self.pond.params("block") if param["name"] == name]
        return str(param["value"])


def test_a_parameter_of_a_function_is_set_by_the_command_line_and_outlives_a_kill(pond: Pond, children: Children, program: Path) -> None:
    bench = Bench(pond, children, program, "scale")
    assert bench.work() == [0.5]
    code, said = cli("set", pond.name, "block", "factor", "0.25")
    assert code == 0, said
    assert bench.work() == [0.25]
    code, said = cli("set", pond.name, "block", "factor", "11")
    assert code != 0 and "`factor`: expected a number from 0 to 10 (V), found 11" in said
    with pytest.raises(millpond.RefusedError, match=r"`factor`: expected a number from 0 to 10 \(V\), found -1"):
        pond.set_param("block", "factor", -1)
    assert bench.work() == [0.25]
    code, said = cli("get", pond.name, "block", "factor")
    assert code == 0 and "0.25" in said
    bench.start_again()
    assert bench.work() == [0.25]
    assert bench.value("factor") == "0.25"


def test_the_setter_of_a_property_is_called_and_may_refuse(pond: Pond, children: Children, program: Path) -> None:
    bench = Bench(pond, children, program, "lookup")
    assert bench.work() == [2, 2, 2, 2]
    pond.set_param("block", "number", 6)
    assert bench.work() == [6, 6, 6, 6]
    with pytest.raises(millpond.RefusedError, match="7 is odd"):
        pond.set_param("block", "number", 7)
    assert bench.work() == [6, 6, 6, 6] and bench.value("number") == "6"
    # What `__init__` does not keep under its name cannot be set.
    with pytest.raises(millpond.RefusedError, match="`path` of block `block` cannot be changed while it runs|cannot be changed"):
        pond.set_param("block", "path", "b")
    bench.start_again()
    assert bench.work() == [6, 6, 6, 6]


def test_parameters_of_a_generator_are_fixed(pond: Pond, children: Children, program: Path) -> None:
    pond.connect("ramp.out", "test.in", depth=4)
    port = pond.input("test.in")
    start(children, program, pond, "ramp", "ramp", "step=2")
    assert [next(port).array[0] for _ in range(3)] == [0, 2, 4]
    with pytest.raises(millpond.RefusedError, match="cannot be changed while it runs"):
        pond.set_param("ramp", "step", 3)


def test_a_value_out_of_range_keeps_a_block_from_starting(pond: Pond, children: Children, program: Path) -> None:
    code, errors = end(start(children, program, pond, "scale", "block", "factor=10.5"))
    assert code == 1 and "`factor`: expected a number from 0 to 10 (V), found 10.5" in errors


def test_what_annotations_say() -> None:
    def kinds(
        samples: NDArray[np.float32],
        *,
        mode: Literal["fast", "exact"] = "fast",
        taps: list[float] = [0.5, 0.5],
        names: list[str] = ["a"],
        limit: Annotated[int, Param(min=1, doc="how many", fixed=True)] = 3,
        label: str | None = None,
        needed: bool,
    ) -> None: ...

    params = {param.pop("name"): param for param in _describe(kinds).spec["params"]}
    assert params["mode"]["kind"] == "one_of" and params["mode"]["words"] == ["fast", "exact"]
    assert (params["taps"]["kind"], params["taps"]["default"], params["taps"]["fixed"]) == ("numbers", [0.5, 0.5], False)
    assert params["names"]["kind"] == "names"
    assert (params["limit"]["min"], params["limit"]["doc"], params["limit"]["fixed"]) == (1, "how many", True)
    assert (params["label"]["optional"], params["needed"]["optional"]) == (True, False)
    json.dumps(params)


def test_wrong_parameters_are_refused_at_the_decorator() -> None:
    def beyond(samples: NDArray[np.float32], *, k: Annotated[float, Param(max=1)] = 2.0) -> None: ...

    class Positional:
        def __init__(self, k: float) -> None: ...
        def work(self, samples: NDArray[np.float32]) -> None: ...

    def default(samples: NDArray[np.float32], k: float = 3.0) -> None: ...

    for target, problem in (
        (beyond, "block beyond: .*the default of parameter `k`: expected a number of at most 1, found 2"),
        (Positional, "block Positional: parameters are keyword-only, found `k`"),
        (default, "block default: input `k`: expected no default"),
    ):
        with pytest.raises(TypeError, match=problem):
            millpond.block(target)


def test_set_here_too(program: Path) -> None:
    """On a thread of this interpreter the same holds."""

    @millpond.block
    def scaled_here(samples: NDArray[np.float32], *, factor: float = 1.0) -> NDArray[np.float32]:
        return samples * np.float32(factor)

    graph = millpond.Flowgraph("set-here")
    graph.block("tone", "signal", freq_hz=1.0, amplitude=1.0)
    graph.block("scale", "scaled-here")
    graph.block("nothing", "null-sink")
    graph.connect("tone -> scale -> nothing")
    with graph.start_here() as run:
        wait_until(lambda: run.pond.statistics().block("scale").sent > 0, "the block")
        assert run.pond.set_param("scale", "factor", 3)["value"] == "3"
