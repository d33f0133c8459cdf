"""How Python blocks take and send: loans without a copy, changes in place, inputs that are not waited for."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until, DEADLINE_S, Children, end, start, used_buffers
from numpy.typing import NDArray

import millpond
from millpond import Frame, Out, Pond, Timestamp
from millpond._blocks import _describe

PROGRAM = '''
from collections.abc import Iterator
import numpy as np
from numpy.typing import NDArray
import millpond
from millpond import Frame, Out

@millpond.block
def scale(samples: NDArray[np.float32], out: Out[np.float32], *, factor: float = 2.0) -> None:
    with out.loan(samples.shape) as scaled:
        np.multiply(samples, factor, out=scaled)

@millpond.block
def halve(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return samples / np.float32(2)

@millpond.block
def in_place(samples: Frame, out: Out[np.float32]) -> None:
    with out.loan(samples) as array:
        array += 1

@millpond.block
def many(samples: NDArray[np.float32], out: Out[np.float32], *, count: int = 20) -> None:
    """More than the pond has buffers for."""
    for i in range(count):
        with out.loan(8) as array:
            array[:] = i

@millpond.block
def merge(left: NDArray[np.int64] | None, right: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Whatever comes."""
    return np.array([-1 if left is None else left[0], -1 if right is None else right[0]])

@millpond.block
def paced(clock: NDArray[np.int64], control: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """One for each of the clock's, whatever there is of the other."""
    return np.array([clock[0], -1 if control is None else control[0]])

@millpond.block
def ramp(out: Out[np.int64], *, count: int = 3) -> Iterator[None]:
    for i in range(count):
        with out.loan(1) as array:
            array[:] = i
        yield

@millpond.block
def quiet(out: Out[np.int64]) -> Iterator[None]:
    """Sends one, and knows that nothing will come for long."""
    out.send(np.array([5]), stamp=5)
    out.advance(900)
    yield
    out.send(np.array([1000]), stamp=1000)
    yield

if __name__ == "__main__":
    millpond.main()
'''


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "ports.py"
    path.write_text(PROGRAM)
    return path


def test_a_loan_in_a_block_and_its_stamp(pond: Pond, children: Children, program: Path) -> None:
    pond.connect("test.out", "scale.samples")
    pond.connect("scale.out", "test.in")
    out, port = pond.output("test.out", dtype="f4"), pond.input("test.in")
    child = start(children, program, pond, "scale", "scale")
    for i in range(3):
        out.send(np.full(4, i, "f4"), stamp=Timestamp.sample(4 * i, 48000))
    out.close()
    frames = list(port)
    assert [frame.array.tolist() for frame in frames] == [[0] * 4, [2] * 4, [4] * 4]
    assert [frame.stamp for frame in frames] == [Timestamp.sample(4 * i, 48000) for i in range(3)]
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    assert end(child) == (0, "")


def test_a_source_says_how_far_it_has_come(pond: Pond, children: Children, program: Path) -> None:
    pond.connect("quiet.out", "test.in", depth=1)
    port = pond.input("test.in")
    child = start(children, program, pond, "quiet", "quiet")
    assert port.receive(timeout=DEADLINE_S).stamp == Timestamp.absolute(5)
    wait_until(lambda: port.bound is not None or port.queued > 0, "the promise")
    assert port.queued > 0 or port.bound == Timestamp.absolute(900)
    assert port.receive(timeout=DEADLINE_S).stamp == Timestamp.absolute(1000)
    assert port.bound == Timestamp.absolute(900), "it outlives what came after it"
    assert end(child) == (0, "")
    # In a test, promises are no frames.
    tested: Out[np.int64] = Out(np.int64)
    tested.advance(7)
    assert tested.sent == []
    with pytest.raises(TypeError, match=r'bound: expected a Timestamp, an int \(.*\) or "now", found None'):
        tested.advance(None)  # type: ignore[arg-type]


def test_a_block_changes_a_buffer_in_place_unless_somebody_else_sees_it(pond: Pond, children: Children, program: Path) -> None:
    pond.connect("test.out", "block.samples")
    pond.connect("block.out", "test.in")
    out, port = pond.output("test.out", dtype="f4"), pond.input("test.in")
    child = start(children, program, pond, "in-place", "block")
    loan = out.loan(4, "f4", stamp=7)
    loan.array[:] = 1
    out.send(loan)
    del loan
    alone = port.receive(timeout=DEADLINE_S)
    assert (alone.array.tolist(), alone.stamp) == ([2] * 4, Timestamp.absolute(7))
    assert used_buffers(pond) == 1
    # Another receiver, which is to see what was sent and not what became of it.
    pond.connect("test.out", "other.in")
    other = pond.input("other.in")
    out.send(np.full(4, 5, "f4"))
    assert port.receive(timeout=DEADLINE_S).array.tolist() == [6] * 4
    assert other.receive(timeout=DEADLINE_S).array.tolist() == [5] * 4
    out.close()
    assert end(child) == (0, "")


def test_the_memory_that_was_sent_is_the_memory_that_is_received(pond: Pond) -> None:
    pond.connect("a.out", "b.in")
    out, port = pond.output("a.out"), pond.input("b.in")
    out.send(np.arange(4))
    frame = port.receive(timeout=DEADLINE_S)
    before = frame.references
    with out.loan(frame) as array:
        array *= 2
        assert used_buffers(pond) == 1
    del array
    again = port.receive(timeout=DEADLINE_S)
    assert again.array.tolist() == [0, 2, 4, 6] and again.sequence == 0 and again.references == before
    with pytest.raises(millpond.AlreadySentError):
        frame.array
    # A view of it here: what the view shows must not change.
    view = again.array
    with out.loan(again) as array:
        array[:] = 9
    assert view.tolist() == [0, 2, 4, 6]
    assert port.receive(timeout=DEADLINE_S).array.tolist() == [9] * 4
    with pytest.raises(TypeError, match="a frame has its own"):
        out.loan(again, "f4")


def test_a_loan_that_finds_no_buffer_is_sent_when_there_is_one(children: Children, program: Path) -> None:
    with Pond.create("few-buffers", pools=[(4096, 4)]) as pond:
        pond.connect("test.out", "many.samples")
        pond.connect("many.out", "test.in")
        port = pond.input("test.in")
        out = pond.output("test.out", dtype="f4")
        child = start(children, program, pond, "many", "many")
        out.send(np.ones(1, "f4"))
        out.close()
        frames = []
        for frame in port:
            frames.append((frame.sequence, frame.array.tolist()))
            del frame
        assert frames == [(i, [i] * 8) for i in range(20)]
        assert end(child) == (0, "")


def test_inputs_that_are_not_waited_for(pond: Pond, children: Children, program: Path) -> None:
    for connection in (("test.left", "merge.left"), ("test.right", "merge.right"), ("merge.out", "test.in")):
        pond.connect(*connection)
    left, right, port = pond.output("test.left", dtype="i8"), pond.output("test.right", dtype="i8"), pond.input("test.in")
    child = start(children, program, pond, "merge", "merge")
    for i in range(3):
        left.send([i])
        assert port.receive(timeout=DEADLINE_S).array.tolist() == [i, -1]
    right.send([10])
    assert port.receive(timeout=DEADLINE_S).array.tolist() == [-1, 10]
    left.close()
    right.send([11])
    assert port.receive(timeout=DEADLINE_S).array.tolist() == [-1, 11]
    right.close()
    assert list(port) == []
    assert end(child) == (0, "")


def test_an_input_that_need_not_be_connected(pond: Pond, children: Children, program: Path) -> None:
    pond.connect("test.clock", "paced.clock")
    pond.connect("paced.out", "test.in")
    clock, port = pond.output("test.clock", dtype="i8"), pond.input("test.in")
    child = start(children, program, pond, "paced", "paced")
    clock.send([1])
    assert port.receive(timeout=DEADLINE_S).array.tolist() == [1, -1]
    pond.connect("test.control", "paced.control")
    control = pond.output("test.control", dtype="i8")
    control.send([5])
    clock.send([2])
    # It looks for a new connection when it looks for an item, and may do so a call late.
    got = [port.receive(timeout=DEADLINE_S).array.tolist()]
    while got[-1][1] == -1:
        clock.send([got[-1][0] + 1])
        got.append(port.receive(timeout=DEADLINE_S).array.tolist())
    assert got[-1][1] == 5
    clock.close()
    assert list(port) == []
    assert end(child) == (0, "")


@pytest.mark.parametrize("block", ["scale", "halve", "in-place"])
def test_frames_through_a_block_leave_no_memory_behind(pond: Pond, children: Children, program: Path, block: str) -> None:
    """By a loan, by a result, in place. MILLPOND_TEST_FRAMES=1000000 is the long one; `pytest -s` shows the figures."""
    count = int(os.environ.get("MILLPOND_TEST_FRAMES", "20000"))
    pond.connect("test.out", "block.samples", depth=64)
    pond.connect("block.out", "test.in", depth=64)
    out, port = pond.output("test.out", dtype="f4"), pond.input("test.in")
    child = start(children, program, pond, block, "block")

    def resident_kib() -> int:
        status = Path(f"/proc/{child.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    payload, batch, before = np.ones(64, "f4"), 32, 0
    seen: list[int] = []
    for done in range(0, count, batch):
        for _ in range(batch):
            out.send(payload)
        for _ in range(batch):
            assert port.receive(timeout=DEADLINE_S).array[0] in (0.5, 2)
        if before == 0 and done >= count // 5:
            before = resident_kib()
        if done >= 10 ** (4 + len(seen)) or done + batch >= count:
            seen.append(resident_kib())
    print(f"\n{block}: {count} frames, {seen} KiB resident after 10^4, 10^5, ... and at the end")
    assert resident_kib() - before < 1024
    out.close()
    assert list(port) == [] and end(child) == (0, "")
    assert used_buffers(pond) == 0


def test_a_source_that_sends_by_loans(pond: Pond, children: Children, program: Path) -> None:
    pond.connect("ramp.out", "test.in")
    port = pond.input("test.in")
    child = start(children, program, pond, "ramp", "ramp")
    frames = list(port)
    assert [frame.array.tolist() for frame in frames] == [[0], [1], [2]]
    assert all(frame.stamp is not None and frame.stamp.kind == "absolute" for frame in frames)
    assert end(child) == (0, "")


def test_work_is_called_alone_with_an_out_of_the_tests_own() -> None:
    def scale(samples: NDArray[np.float32], out: Out[np.float32]) -> None:
        with out.loan(samples.shape, "f4") as scaled:
            np.multiply(samples, 2, out=scaled)
        out.send([7.0])

    out: Out[np.float32] = Out(np.float32)
    scale(np.ones(2, np.float32), out)
    assert [(array.dtype.name, array.tolist()) for array in out.sent] == [("float32", [2, 2]), ("float32", [7])]
    with pytest.raises(TypeError, match="output `out`: expected float32 as annotated, found float64"):
        out.send(np.ones(2))
    with pytest.raises(TypeError, match="output `out`: expected float32 as annotated, found int16"):
        out.loan(3, "i2")
    with pytest.raises(ZeroDivisionError), out.loan(3):
        1 / 0
    assert len(out.sent) == 2


def test_a_block_cannot_write_into_what_it_has_sent(pond: Pond) -> None:
    kept: list[NDArray[np.float32]] = []
    told: list[str] = []

    @millpond.block
    def keeps_writing(samples: NDArray[np.float32], out: Out[np.float32]) -> None:
        with out.loan(samples.shape) as array:
            array[:] = samples
            part = array[1:]
        kept.append(array)
        try:
            array[:] = 3
        except ValueError as error:
            told.append(str(error))
        del part

    @millpond.block
    def leaves_a_view(samples: NDArray[np.float32], out: Out[np.float32]) -> None:
        array = out.loan(3).array
        out.send(array)  # a copy
        loan = out.loan(3)
        view = loan.array
        with pytest.raises(millpond.WritableViewError):
            out.send(loan)
        del view

    for block, expected in ((keeps_writing, pytest.raises(millpond.BlockFailedError, match="writable view")), (leaves_a_view, None)):
        graph = millpond.Flowgraph(f"writes-{expected is None}")
        graph.block("zeros", "null-source", count=2, items=4)
        graph.block("block", block)
        graph.block("nothing", "null-sink")
        graph.connect("zeros -> block -> nothing")
        if expected is None:
            graph.run_here()
        else:
            with expected:
                graph.run_here()


def test_refused_ports() -> None:
    def out_first(out: Out[np.float32], samples: NDArray[np.float32]) -> None: ...
    def of_two(samples: NDArray[np.float32] | NDArray[np.float64]) -> None: ...
    def half(samples: NDArray[np.float16]) -> None: ...
    def star(*samples: NDArray[np.float32]) -> None: ...

    for target, problem in (
        (out_first, "inputs come before outputs, found `samples` after `out`"),
        (of_two, "expected one type, or one or None"),
        (half, "block half: port `samples`: dtype: expected one of .*, found dtype..float16"),
        (star, r"expected ports and parameters by name, found `\*samples"),
    ):
        with pytest.raises(TypeError, match=problem):
            millpond.block(target)


def test_what_annotations_say() -> None:
    def ports(
        samples: Frame, trim: NDArray[np.int16] | None, gain: NDArray[np.float32] | None = None, *, k: int = 1
    ) -> Iterator[Frame]:
        yield samples

    spec = _describe(ports).spec
    assert [(port["name"], port["optional"]) for port in spec["inputs"]] == [("samples", False), ("trim", False), ("gain", True)]
    assert [(port["name"], port["like"]) for port in spec["outputs"]] == [("out", "samples")]
    assert [(port.name, port.waits) for port in _describe(ports).inputs] == [("samples", True), ("trim", False), ("gain", False)]
