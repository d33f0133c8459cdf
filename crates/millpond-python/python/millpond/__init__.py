"""Streaming pipelines whose every block may be its own process.

Data lies in buffers in shared memory; a received frame is a numpy view of it. Kill any process at any
moment: what it held is given back, nobody else stalls, nothing that was published is lost.
"""

from millpond._align import align
from millpond._blocks import block, main
from millpond._millpond import (
    AlreadySentError,
    BlockFailedError,
    BufferTooLargeError,
    ClosedError,
    EndOfStreamError,
    ForkedError,
    Format,
    Frame,
    Input,
    Loan,
    MillpondError,
    Output,
    Pond,
    PondExistsError,
    PondNotFoundError,
    PoolExhaustedError,
    PortInUseError,
    ReceiverDiedError,
    SenderDiedError,
    StoppedError,
    Timestamp,
    WritableViewError,
    __version__,
    ponds,
)

__all__ = [
    "AlreadySentError",
    "BlockFailedError",
    "BufferTooLargeError",
    "ClosedError",
    "EndOfStreamError",
    "ForkedError",
    "Format",
    "Frame",
    "Input",
    "Loan",
    "MillpondError",
    "Output",
    "Pond",
    "PondExistsError",
    "PondNotFoundError",
    "PoolExhaustedError",
    "PortInUseError",
    "ReceiverDiedError",
    "SenderDiedError",
    "StoppedError",
    "Timestamp",
    "WritableViewError",
    "__version__",
    "align",
    "block",
    "main",
    "ponds",
]
