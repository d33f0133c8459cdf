"""Every test has a pond of its own, in a directory of its own, and leaves no process behind."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import millpond

_numbers = itertools.count()
DEADLINE_S = 60


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Waits for a condition; the machine may be slow, so only a long silence is a failure."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "ponds"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("MILLPOND_RUNTIME_DIR", str(directory))
    return directory


@pytest.fixture
def pond() -> Iterator[millpond.Pond]:
    with millpond.Pond.create(f"test-{os.getpid()}-{next(_numbers)}") as pond:
        yield pond


class Children:
    """Python processes that a test has started."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[str]] = []

    def start(self, code: str, *arguments: str) -> "subprocess.Popen[str]":
        """Runs a program that says `ready` (and perhaps more) on its standard output."""
        child = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(child)
        return child

    def kill(self, child: "subprocess.Popen[str]") -> None:
        child.kill()
        child.wait(DEADLINE_S)


@pytest.fixture
def children() -> Iterator[Children]:
    children = Children()
    try:
        yield children
    finally:
        for child in children.running:
            child.kill()
            child.communicate()


def used_buffers(pond: millpond.Pond) -> int:
    """Buffers that anybody holds or that wait in a queue."""
    return sum(pool["used"] for pool in pond.inspect()["pools"])


def start(children: Children, program: Path, pond: millpond.Pond, block_type: str, name: str, *params: str) -> "subprocess.Popen[str]":
    """A block of a program, in a process of its own."""
    arguments = [sys.executable, str(program), "block", block_type, name, "--pond", pond.name]
    for param in params:
        arguments += ["--param", param]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children.running.append(child)
    return child


def end(child: "subprocess.Popen[str]") -> tuple[int, str]:
    """The exit code and what was said on standard error."""
    _, errors = child.communicate(timeout=DEADLINE_S)
    return child.returncode, errors
