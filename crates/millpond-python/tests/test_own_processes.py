"""Python blocks as processes of their own: each has its interpreter and its GIL, and is started again when it is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import DEADLINE_S, wait_until

from millpond import Flowgraph, Run

PROGRAM = '''
from collections.abc import Iterator
import numpy as np
from numpy.typing import NDArray
import millpond

@millpond.block
def numbers(*, count: int = 10**9) -> Iterator[NDArray[np.int64]]:
    for i in range(count):
        yield np.array([i])

@millpond.block
def busy(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Holds the GIL nearly all of the time."""
    total = 0
    for i in range(200_000):
        total += i
    return numbers + (total - total)

if __name__ == "__main__":
    millpond.main()
'''


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    program = tmp_path / "blocks.py"
    program.write_text(PROGRAM)
    path = tmp_path / "pipeline.toml"
    path.write_text(f'''
name = "own-processes"
connect = [
    "numbers -> left -> left-end",
    "numbers -> right -> right-end",
]
[blocks.numbers]
type = "numbers"
program = "{sys.executable} {program}"
[blocks.left]
type = "busy"
program = "{sys.executable} {program}"
[blocks.right]
type = "busy"
program = "{sys.executable} {program}"
[blocks.left-end]
type = "null-sink"
[blocks.right-end]
type = "null-sink"
''')
    return path


def pid_of(run: Run, block: str) -> int:
    wait_until(lambda: run.pond.statistics().block(block).sent > 0, f"`{block}` to work")
    pid = run.pond.statistics().block(block).pid
    assert pid is not None
    return pid


class Process:
    """What the kernel says about a process."""

    def __init__(self, pid: int) -> None:
        # The name, in parentheses, may have blanks in it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.is_runnable = fields[0] == "R"
        self.cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        self.cpu = int(fields[36])


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_two_busy_python_blocks_use_two_cores(pipeline: Path) -> None:
    """Two threads under one GIL are never both runnable for long; these processes are, and on different cores. That holds
    whatever else the machine does, unlike a comparison of times."""
    with Flowgraph.load(pipeline).start() as run:
        pids = pid_of(run, "left"), pid_of(run, "right")
        assert pids[0] != pids[1] and os.getpid() not in pids
        before = [Process(pid).cpu_s for pid in pids]
        together, looks = 0, 0
        end = time.monotonic() + DEADLINE_S
        while together < 100 and time.monotonic() < end:
            left, right = (Process(pid) for pid in pids)
            together += left.is_runnable and right.is_runnable and left.cpu != right.cpu
            looks += 1
            time.sleep(0.002)
        assert together == 100, f"{together} of {looks} looks"

        def both_have_worked() -> bool:
            return all(Process(pid).cpu_s - cpu_s > 0.3 for pid, cpu_s in zip(pids, before, strict=True))

        wait_until(both_have_worked, "CPU time of both")


def test_a_killed_python_block_is_started_again(pipeline: Path) -> None:
    with Flowgraph.load(pipeline).start() as run:
        first = pid_of(run, "left")
        os.kill(first, signal.SIGKILL)

        def goes_on() -> bool:
            block = run.pond.statistics().block("left")
            return block.starts == 2 and block.stage == "running" and block.pid not in (None, first)

        wait_until(goes_on, "the restart")
        sent = run.pond.statistics().block("left").sent
        wait_until(lambda: run.pond.statistics().block("left").sent > sent, "its work")
        assert any(f"process {first} killed by signal 9" in line.text for line in run.pond.logs("left"))
        run.stop()
        end = run.wait(DEADLINE_S)
    assert end.statistics is not None
    # What it had in hand is lost and counted; everything else is there.
    into, out = (end.statistics.connection(*ports) for ports in (("numbers.out", "left.numbers"), ("left.out", "left-end.in")))
    assert into.sent == into.taken and into.lost_in_hand <= 1 and into.queued == into.left_behind == 0
    assert out.sent == out.taken == into.taken - into.lost_in_hand
    other = end.statistics.connection("right.out", "right-end.in")
    assert other.sent == other.taken == end.statistics.connection("numbers.out", "right.numbers").sent


def test_the_example_with_a_spectrum(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    arguments = [root / "examples" / "python" / "spectrum.py", root / "examples" / "tone.wav", tmp_path / "spectrum.csv"]
    said = subprocess.check_output([sys.executable, *arguments], text=True, timeout=DEADLINE_S)
    # 440 Hz, in bands of 125 Hz.
    assert said == "2 spectra; the loudest band is number 3 of 0 to 31\n"
