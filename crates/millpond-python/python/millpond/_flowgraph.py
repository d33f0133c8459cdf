"""Flowgraphs: which blocks there are and how they are connected; built here or read from a pipeline file, and run."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from millpond import _blocks, _millpond
from millpond._millpond import Pond
from millpond._statistics import Statistics


class Flowgraph:
    """Blocks and their connections.

    Block types are those that come with Millpond (by name), those of this program (`@millpond.block` functions and
    classes), and with `program=` those of any other program. Everything is checked when it is run, drawn or `check`ed: what
    is wrong raises `FlowgraphError`, which shows all of it.

    >>> import os
    >>> graph = Flowgraph(f"doc-graph-{os.getpid()}")
    >>> graph.block("zeros", "null-source", count=100, items=64)
    >>> graph.block("nothing", "null-sink")
    >>> graph.connect("zeros -> nothing")
    >>> graph.run_here().reason
    'its blocks ended'
    >>> graph.connect("nothing -> zeros")
    >>> graph.check()
    Traceback (most recent call last):
    ...
    millpond.FlowgraphError: error: ...
    """

    def __init__(self, name: str) -> None:
        self._path = f"{name} (built)"
        self._builder: _millpond._Builder | None = _millpond._Builder(name)
        self._text = ""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a pipeline file. Nothing can be added to it."""
        return cls.parse(Path(path).read_text(), path=os.fspath(path))

    @classmethod
    def parse(cls, text: str, *, path: str = "flowgraph.toml") -> Self:
        """Takes the text of a pipeline file; `path` is how errors call it. Nothing can be added to it."""
        graph = cls.__new__(cls)
        graph._path, graph._builder, graph._text = path, None, text
        return graph

    def block(self, name: str, block_type: str | Callable[..., Any], /, **params: object) -> None:
        """Adds a block of this type with these parameters.

        As in a pipeline file `program`, `restart` (`"on-failure"`, `"always"`, `"never"`) and `kill_stalled` are no
        parameters of the type, but say how the block is run.
        """
        if not isinstance(block_type, str):
            described = next((known for known in _blocks._types.values() if known.target is block_type), None)
            if described is None:
                raise TypeError(f"block `{name}`: {block_type!r} is not a block: decorate it with @millpond.block")
            block_type = described.name
        self._being_built().block(name, block_type, list(params.items()))

    def connect(
        self,
        chain_or_from: str,
        to: str | None = None,
        /,
        *,
        depth: int | None = None,
        max_time: float | None = None,
        policy: Literal["block", "drop-newest", "drop-oldest"] | None = None,
    ) -> None:
        """Connects blocks: `connect("a -> b.in -> c")`, or one output to one input with its settings:
        `connect("a.out", "b.in", depth=4, max_time=0.05, policy="drop-oldest")`, the time in seconds. A port can be left out where a block has only one.
        """
        builder = self._being_built()
        if to is not None:
            builder.connect_with(chain_or_from, to, depth, max_time, policy)
        elif depth is not None or max_time is not None or policy is not None:
            raise TypeError("connect: depth, max_time and policy belong to one connection: connect(from, to, ...)")
        else:
            builder.connect(chain_or_from)

    def process(
        self,
        name: str,
        blocks: Sequence[str],
        *,
        threads: int = 1,
        cpus: Sequence[int] = (),
        nice: int | None = None,
    ) -> None:
        """Puts blocks into one process when the flowgraph is run by processes; otherwise each has its own."""
        self._being_built().process(name, list(blocks), threads, list(cpus), nice)

    def pool(self, block_bytes: int, count: int) -> None:
        """Adds a pool of buffers; with none, the pond has the default ones."""
        self._being_built().pool(block_bytes, count)

    def duration(self, seconds: float) -> None:
        """Stops the sources after this time."""
        self._being_built().duration(seconds)

    def to_toml(self) -> str:
        """The pipeline file that says the same."""
        return self._builder.to_toml() if self._builder is not None else self._text

    def check(self) -> None:
        """Raises `FlowgraphError` with everything that is wrong."""
        self._graph()

    def start(self, *, program: Sequence[str] | None = None) -> "Run":
        """Starts it, each block as its own process; dead ones are started again as the flowgraph says.

        `program` (with first arguments) runs the blocks that name no program of their own: by default this Python, which
        reads the files in which the `@millpond.block` types that are used are defined, and imports them where they are
        modules of a package. Such a file does what shall not be done there under `if __name__ == "__main__":`.
        """
        graph = self._graph()
        if program is None:
            command = [sys.executable, "-m", "millpond"]
            used = {block_type for _, block_type in graph.blocks}
            for described in _blocks._types.values():
                if described.name not in used or described.source in command:
                    continue
                if not described.source:
                    raise TypeError(
                        f"block type `{described.name}` is in no file, so no other process can have it: "
                        "put it into one and import it from there, or use run_here"
                    )
                command += ["--types", described.source]
        else:
            command = list(program)
        return Run(graph.name, graph.start(command))

    def start_here(self, threads: int = 1) -> "Run":
        """Starts it on so many threads of this process. Blocks written in Python take turns then: there is one GIL."""
        graph = self._graph()
        return Run(graph.name, graph.start_here(threads))

    def run(self, *, program: Sequence[str] | None = None) -> "End":
        """`start`s it and waits for its end; Ctrl-C stops it in order."""
        with self.start(program=program) as run:
            return run.wait()

    def run_here(self, threads: int = 1) -> "End":
        """As `run`, on threads of this process."""
        with self.start_here(threads) as run:
            return run.wait()

    def to_svg(self) -> str:
        """A picture of it."""
        return self._graph().svg()

    def to_dot(self) -> str:
        """A DOT graph of it, for Graphviz."""
        return self._graph().dot()

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __repr__(self) -> str:
        return f"<millpond.Flowgraph {self._path}>"

    def _being_built(self) -> _millpond._Builder:
        if self._builder is None:
            raise TypeError(f"{self._path} is complete: nothing can be added to a flowgraph that was read")
        return self._builder

    def _graph(self) -> _millpond._Graph:
        types = [_blocks._for_rust(described) for described in _blocks._types.values()]
        return _millpond._Graph(self._path, self.to_toml(), types)


@dataclass(frozen=True)
class End:
    """How a flowgraph ended."""

    reason: str
    statistics: Statistics
    """The final numbers. Those of connections only if processes ran it: on threads of this process they end with their blocks."""


class Run:
    """A flowgraph that runs; made by `Flowgraph.start`. Leaving its `with` block stops it in order and waits."""

    def __init__(self, name: str, run: _millpond._Run) -> None:
        self._name = name
        self._run = run
        self._pond: Pond | None = None
        self._end: End | BaseException | None = None

    @property
    def pond(self) -> Pond:
        """Its pond: statistics, parameters, calls, logs."""
        if self._pond is None:
            self._pond = Pond.attach(self._name, role="tool")
        return self._pond

    def wait(self, timeout: float | None = None) -> End:
        """Waits for the end, at most `timeout` seconds (`None`: without end).

        Raises `BlockFailedError` if a block failed or was given up, `TimeoutError` if it goes on.
        """
        if self._end is None:
            try:
                ended = self._run.wait(timeout)
            except _millpond.MillpondError as error:
                self._end = error
            else:
                if ended is None:
                    raise TimeoutError(f"`{self._name}` still runs after {timeout} s")
                self._end = End(*ended)
            # Nobody shall keep the pond of a flowgraph that has ended.
            if self._pond is not None:
                self._pond.close()
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end

    def stop(self) -> None:
        """Asks it to end: the first time in order (sources stop, everything else takes what is queued), the second at once."""
        self._run.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._end is not None or self._run.is_forked():
            return
        self.stop()
        try:
            self.wait()
        except _millpond.MillpondError:
            if exc is None:
                raise

    def __repr__(self) -> str:
        return f"<millpond.Run {self._name}{'' if self._end is None else ' (ended)'}>"
