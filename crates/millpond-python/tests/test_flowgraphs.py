"""Flowgraphs from Python: built, checked, drawn, run here and by processes, watched and changed while they run."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from conftest import DEADLINE_S, wait_until

import millpond
from millpond import Flowgraph, Pond, Run

FILTERS = '''
import logging
import os
from collections.abc import Iterator
import numpy as np
from numpy.typing import NDArray
import millpond

@millpond.block
def ramp_for_graphs(*, count: int = 5) -> Iterator[NDArray[np.float32]]:
    """Counts up."""
    for i in range(count):
        yield np.full(4, i, np.float32)

@millpond.block
class KeepSum:
    """Writes the sum of everything to a file."""
    def __init__(self, *, path: str) -> None:
        self.path, self.sum = path, 0.0
    def work(self, samples: NDArray[np.float32]) -> None:
        self.sum += float(samples.sum())
    def finish(self) -> None:
        logging.getLogger("keeper").warning("the sum is %s", self.sum)
        with open(self.path, "w") as file:
            file.write(f"{self.sum} {os.getpid()}")

@millpond.block
def fail_at_two(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    if samples[0] == 2:
        raise ValueError("what a number")
    return samples
'''


@pytest.fixture(scope="module")
def filters(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """A file with block types, imported as a program would."""
    path = tmp_path_factory.mktemp("with space") / "graph_filters.py"
    path.write_text(FILTERS)
    spec = importlib.util.spec_from_file_location("graph_filters", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["graph_filters"] = module
    spec.loader.exec_module(module)
    return module


def endless(name: str) -> Flowgraph:
    """Runs until it is stopped."""
    graph = Flowgraph(name)
    graph.block("zeros", "null-source", items=64)
    graph.block("louder", "gain", k=2.0)
    graph.block("nothing", "null-sink")
    graph.connect("zeros -> louder")
    graph.connect("louder.out", "nothing.in", depth=4)
    return graph


def until_running(run: Run) -> Pond:
    pond = run.pond
    wait_until(lambda: all(block.stage == "running" for block in pond.statistics().blocks), "the blocks")
    return pond


@pytest.mark.parametrize("by_processes", [False, True], ids=["here", "processes"])
def test_python_and_rust_blocks_together(filters: ModuleType, tmp_path: Path, by_processes: bool) -> None:
    path = tmp_path / "sum"
    graph = Flowgraph("together")
    graph.block("ramp", filters.ramp_for_graphs, count=10)
    graph.block("double", "gain", k=2)
    graph.block("sum", "keep-sum", path=str(path))
    graph.connect("ramp -> double -> sum")
    end = graph.run() if by_processes else graph.run_here(threads=2)
    total, pid = path.read_text().split()
    assert float(total) == 2 * 4 * 45
    assert (int(pid) == os.getpid()) is not by_processes
    assert end.reason == ("its sources ended" if by_processes else "its blocks ended")
    assert [(block.name, block.stage, block.starts, block.taken, block.sent) for block in end.statistics.blocks] == [
        ("ramp", "done", 1, 0, 10),
        ("double", "done", 1, 10, 10),
        ("sum", "done", 1, 10, 0),
    ]
    if by_processes:
        connection = end.statistics.connection("double.out", "sum.samples")
        assert (connection.sent, connection.taken, connection.queued, connection.lost_in_hand) == (10, 10, 0, 0)
    with pytest.raises(KeyError):
        end.statistics.block("nobody")
    assert "together" not in dict(millpond.ponds())


def test_a_shared_process_runs_rust_and_python_blocks(filters: ModuleType, tmp_path: Path) -> None:
    graph = Flowgraph("shared")
    graph.block("ramp", filters.ramp_for_graphs, count=100)
    graph.block("double", "gain", k=2)
    graph.block("sum", filters.KeepSum, path=str(tmp_path / "sum"))
    graph.connect("ramp -> double -> sum")
    graph.process("dsp", ["ramp", "double"], threads=2)
    graph.run()
    assert float((tmp_path / "sum").read_text().split()[0]) == 2 * 4 * 4950


@pytest.mark.parametrize("by_processes", [False, True], ids=["here", "processes"])
def test_parameters_statistics_and_a_stop_in_order(by_processes: bool) -> None:
    graph = endless("controlled")
    with graph.start() if by_processes else graph.start_here() as run:
        pond = until_running(run)
        with pytest.raises(TimeoutError, match="still runs"):
            run.wait(timeout=0.01)
        (k,) = [param for param in pond.params("louder") if param["name"] == "k"]
        assert float(k["value"]) == 2
        assert float(pond.set_param("louder", "k", 0.25)["value"]) == 0.25
        with pytest.raises(millpond.RefusedError, match="expected"):
            pond.set_param("louder", "k", "much")
        with pytest.raises(millpond.NotAnsweredError, match="nobody in pond `controlled` answers"):
            pond.call("lauder/get")
        before = pond.statistics().block("louder")
        wait_until(lambda: pond.statistics().block("louder").sent > before.sent, "the flow")
        assert (before.pid == os.getpid()) is not by_processes
        assert "louder" in pond._repr_svg_()
        run.stop()
        end = run.wait(DEADLINE_S)
    if by_processes:
        assert end.reason == "it was asked to end"
        assert end.statistics is not None
        connection = end.statistics.connection("louder.out", "nothing.in")
        assert connection.sent == connection.taken and connection.queued == 0
    assert "controlled" not in dict(millpond.ponds())


def test_leaving_the_with_block_stops() -> None:
    with endless("left").start() as run:
        until_running(run)
    assert run.wait().statistics is not None
    with pytest.raises(ZeroDivisionError), endless("left").start_here():
        1 / 0
    assert "left" not in dict(millpond.ponds())


def test_a_killed_block_is_started_again_and_the_log_says_so() -> None:
    with endless("killed").start() as run:
        pond = until_running(run)
        first = pond.statistics().block("louder").pid
        assert first is not None
        os.kill(first, signal.SIGKILL)

        def again() -> bool:
            block = pond.statistics().block("louder")
            return block.starts == 2 and block.stage == "running" and block.pid not in (None, first)

        wait_until(again, "the restart")
        assert any("killed by signal 9" in line.text and line.level == "error" for line in pond.logs("louder"))
        assert all(line.block == "louder" for line in pond.logs("louder"))


def test_the_failure_of_a_block_is_an_exception(filters: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    for by_processes in (False, True):
        graph = Flowgraph("failing")
        graph.block("ramp", filters.ramp_for_graphs)
        graph.block("fail", filters.fail_at_two, restart="never")
        graph.block("nothing", "null-sink")
        graph.connect("ramp -> fail -> nothing")
        with pytest.raises(millpond.BlockFailedError, match="fail.*ValueError: what a number") as caught:
            graph.run() if by_processes else graph.run_here()
        assert "in fail_at_two" in capfd.readouterr().err
        if by_processes:
            (note,) = caught.value.__notes__
            assert "in fail_at_two" in note and 'raise ValueError("what a number")' in note


def test_python_logging_arrives_in_the_ponds_log(filters: ModuleType, tmp_path: Path) -> None:
    graph = Flowgraph("logged")
    graph.block("ramp", filters.ramp_for_graphs)
    graph.block("sum", filters.KeepSum, path=str(tmp_path / "sum"))
    graph.connect("ramp -> sum")
    run = graph.start()
    pond = run.pond
    wait_until(lambda: any(line.text == "keeper: the sum is 40.0" for line in pond.logs("sum")), "the line")
    (line,) = [line for line in pond.logs("sum") if line.text.startswith("keeper")]
    assert line.level == "warn" and line.pid != os.getpid()
    assert abs(line.unix_ns / 1e9 - time.time()) < 3600
    run.wait(DEADLINE_S)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    graph = Flowgraph("wrong")
    graph.block("a", "null-sorce")
    graph.block("b", "gain", k="loud", rate=3)
    graph.connect("a -> c")
    with pytest.raises(millpond.FlowgraphError) as caught:
        graph.check()
    text = str(caught.value)
    for part in ("did you mean `null-source`?", "expected a number", "`rate`", "wrong (built):"):
        assert part in text
    with pytest.raises(TypeError, match="is not a block: decorate it"):
        graph.block("d", print)
    with pytest.raises(TypeError, match="block `e`, `k`: expected bool, int"):
        graph.block("e", "gain", k={})
    with pytest.raises(TypeError, match="depth, max_time and policy belong to one connection"):
        graph.connect("a -> b", depth=3)


def test_files(tmp_path: Path) -> None:
    graph = endless("from-file")
    graph.duration(0.2)
    graph.pool(1 << 16, 64)
    path = tmp_path / "graph.toml"
    path.write_text(graph.to_toml())
    loaded = Flowgraph.load(path)
    assert loaded.to_svg() == graph.to_svg() and "<svg" in loaded._repr_svg_() and "digraph" in loaded.to_dot()
    with pytest.raises(TypeError, match="nothing can be added"):
        loaded.block("x", "null-sink")
    assert loaded.run_here().reason
    assert loaded.run(program=[sys.executable, "-m", "millpond"]).reason == "its time is over"
    path.write_text("name = 3\n")
    with pytest.raises(millpond.FlowgraphError, match="graph.toml:1"):
        Flowgraph.load(path).check()
    with pytest.raises(FileNotFoundError):
        Flowgraph.load(tmp_path / "absent.toml")


def test_a_name_can_run_once_at_a_time() -> None:
    with endless("once").start_here() as run:
        until_running(run)
        with pytest.raises(millpond.PondExistsError):
            endless("once").start()


def test_messages(pond: Pond) -> None:
    alarms = pond.subscribe("*/alarm")
    assert pond.publish("boiler/level", 3) == 0
    assert pond.publish("boiler/alarm", {"celsius": 104.5}) == 1
    message = alarms.receive(timeout=DEADLINE_S)
    assert (message.topic, message.value, message.sender_pid) == ("boiler/alarm", {"celsius": 104.5}, os.getpid())
    with pytest.raises(TimeoutError):
        alarms.receive(timeout=0.01)
    with pytest.raises(ValueError, match="topic"):
        pond.publish("a b", 1)
    assert alarms.dropped == 0
    pond.request_stop()
    assert list(alarms) == []
    alarms.close()
    with pytest.raises(millpond.ClosedError):
        alarms.receive()


def test_the_interpreter_ends_while_a_flowgraph_runs(tmp_path: Path) -> None:
    code = """
import millpond, sys
graph = millpond.Flowgraph("abandoned")
graph.block("zeros", "null-source", items=64)
graph.block("nothing", "null-sink")
graph.connect("zeros -> nothing")
run = graph.start() if sys.argv[1] == "processes" else graph.start_here()
while not all(block.sent + block.taken for block in run.pond.statistics().blocks):
    pass
"""
    for how in ("here", "processes"):
        done = subprocess.run([sys.executable, "-c", code, how], timeout=DEADLINE_S, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        wait_until(lambda: "abandoned" not in dict(millpond.ponds()), "the pond's end")


def test_a_block_in_no_file_runs_here_only() -> None:
    names: dict[str, object] = {"__name__": "in_no_file"}
    exec(
        "import millpond, numpy as np\nfrom numpy.typing import NDArray\n"
        "@millpond.block\ndef from_nowhere(samples: NDArray[np.float32]) -> None: ...\n",
        names,
    )
    graph = Flowgraph("nowhere")
    graph.block("zeros", "null-source", count=3, items=4)
    graph.block("sink", "from-nowhere")
    graph.connect("zeros -> sink")
    graph.run_here()
    with pytest.raises(TypeError, match="`from-nowhere` is in no file"):
        graph.start()
