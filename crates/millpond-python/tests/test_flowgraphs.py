"""Flowgraphs from Python: built, checked, drawn, run here and by processes, watched and changed while they run."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import DEADLINE_S, Children, wait_until

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


IN_A_PACKAGE = '''
import sys
from collections.abc import Iterator
import numpy as np
from numpy.typing import NDArray
import millpond
from . import STEP

@millpond.block
def count_in_steps(*, count: int = 5) -> Iterator[NDArray[np.float32]]:
    for i in range(count):
        yield np.full(4, i * STEP, np.float32)

def main() -> None:
    graph = millpond.Flowgraph("packaged")
    graph.block("count", count_in_steps)
    graph.block("file", "file-sink", path=sys.argv[1])
    graph.connect("count -> file")
    print(graph.run().reason)

if __name__ == "__main__":
    main()
'''


@pytest.mark.parametrize(
    ("package", "command"),
    [("filters", ["-m", "filters.pipeline"]), ("app/filters", ["app/main.py"])],
    ids=["run as a module", "beside the program"],
)
def test_blocks_in_a_package(tmp_path: Path, package: str, command: list[str]) -> None:
    """Another process imports the module by its own name, from where the package is."""
    directory = tmp_path / package
    directory.mkdir(parents=True)
    (directory / "__init__.py").write_text("STEP = 3\n")
    (directory / "pipeline.py").write_text(IN_A_PACKAGE)
    (directory.parent / "main.py").write_text("from filters.pipeline import main\nif __name__ == '__main__': main()\n")
    path = tmp_path / "steps"
    program = [sys.executable, *command, str(path)]
    done = subprocess.run(program, cwd=tmp_path, timeout=DEADLINE_S, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "its sources ended\n"), done.stderr
    assert path.read_bytes() == np.repeat(np.arange(5, dtype="f4") * 3, 4).tobytes()
    # By hand, where Python finds it.
    by_hand = [sys.executable, "-m", "millpond", "--types", "filters.pipeline", "blocks"]
    assert "count-in-steps" in subprocess.check_output(by_hand, cwd=directory.parent, timeout=DEADLINE_S, text=True)


COMPLAINS = '''
import sys
import numpy as np
from numpy.typing import NDArray
import millpond

@millpond.block
def complain(samples: NDArray[np.float32], *, fail: bool = False) -> None:
    if fail:
        raise ValueError("what a number")
    print("what a number", file=sys.stderr)

if __name__ == "__main__":
    here = sys.argv[1] == "here"
    graph = millpond.Flowgraph("unheard")
    graph.block("zeros", "null-source", count=10, items=4)
    graph.block("complain", complain, fail=here)
    graph.connect("zeros -> complain")
    sys.stdin.readline()
    try:
        print((graph.run_here() if here else graph.run()).reason)
    except millpond.BlockFailedError as error:
        print(error)
'''


@pytest.mark.parametrize(("how", "ends"), [("here", "ValueError: what a number"), ("processes", "its sources ended")])
def test_a_standard_error_that_nobody_reads_disturbs_no_run(tmp_path: Path, children: Children, how: str, ends: str) -> None:
    program = tmp_path / "complains.py"
    program.write_text(COMPLAINS)
    child = subprocess.Popen(
        [sys.executable, str(program), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children.running.append(child)
    assert child.stderr is not None
    child.stderr.close()
    said, _ = child.communicate("\n", timeout=DEADLINE_S)
    assert child.returncode == 0 and ends in said


DROPPED = '''
import sys
import time
import numpy as np
from numpy.typing import NDArray
import millpond

@millpond.block
class SaysItsEnd:
    def __init__(self, *, path: str) -> None:
        self.path = path
    def work(self, samples: NDArray[np.float32]) -> None: ...
    def finish(self) -> None:
        with open(self.path, "w") as file:
            file.write("in order")

def start() -> None:
    graph = millpond.Flowgraph("dropped")
    graph.block("zeros", "null-source", items=64)
    graph.block("last", SaysItsEnd, path=sys.argv[2])
    graph.connect("zeros -> last")
    run = graph.start() if sys.argv[1] == "processes" else graph.start_here()
    while not run.pond.statistics().block("last").taken:
        time.sleep(0.01)

if __name__ == "__main__":
    start()
'''


@pytest.mark.parametrize("how", ["here", "processes"])
def test_a_run_that_nobody_keeps_ends_in_order_with_the_interpreter(tmp_path: Path, how: str) -> None:
    program, path = tmp_path / "dropped.py", tmp_path / "end"
    program.write_text(DROPPED)
    command = [sys.executable, str(program), how, str(path)]
    done = subprocess.run(command, timeout=DEADLINE_S, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_text() == "in order"
    wait_until(lambda: "dropped" not in dict(millpond.ponds()), "the pond's end")


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
