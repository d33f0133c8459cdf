"""What a pond counts, as plain objects."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Latency:
    """Time from a buffer's timestamp to its being taken, in seconds."""

    p50_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True)
class BlockStatistics:
    """The numbers of one block; `taken` and `sent` count buffers, by all its processes so far."""

    name: str
    block_type: str
    stage: Literal["declared", "starting", "running", "done", "failed"]
    pid: int | None
    """Of the process that runs it now."""
    starts: int
    taken: int
    sent: int
    latency: Latency | None
    """If the timestamps are absolute."""


@dataclass(frozen=True)
class ConnectionStatistics:
    """The numbers of one connection, in buffers."""

    from_port: str
    to_port: str
    depth: int
    """How many may wait."""
    queued: int
    sent: int
    taken: int
    dropped_newest: int
    """Not sent because the queue was full, as the policy asked."""
    dropped_oldest: int
    """Removed from the full queue, as the policy asked."""
    lost_in_hand: int
    """In the hands of a receiver when it was killed."""
    left_behind: int
    """Still queued when the receiver had ended for good."""


@dataclass(frozen=True)
class Statistics:
    """The numbers of all blocks and connections."""

    blocks: list[BlockStatistics]
    connections: list[ConnectionStatistics]

    def block(self, name: str) -> BlockStatistics:
        """The numbers of one block; raises `KeyError`."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise KeyError(name)

    def connection(self, from_port: str, to_port: str) -> ConnectionStatistics:
        """The numbers of one connection; raises `KeyError`."""
        for connection in self.connections:
            if (connection.from_port, connection.to_port) == (from_port, to_port):
                return connection
        raise KeyError(f"{from_port} -> {to_port}")


@dataclass(frozen=True)
class LogLine:
    """A line of a pond's log."""

    unix_ns: int
    level: Literal["error", "warn", "info", "debug", "trace"]
    pid: int
    block: str
    """Empty: about no block."""
    text: str


@dataclass(frozen=True)
class Message:
    """What somebody published on the message bus."""

    topic: str
    value: object
    sender_pid: int
