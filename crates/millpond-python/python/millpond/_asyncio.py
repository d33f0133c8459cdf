"""Input ports in event loops: `async for frame in port`."""

import asyncio
import os
from collections.abc import AsyncGenerator

from millpond._millpond import EndOfStreamError, Frame, Input, StoppedError


async def frames(port: Input) -> AsyncGenerator[Frame, None]:
    """Yields the frames of a port; the event loop runs on while none waits."""
    loop = asyncio.get_running_loop()
    rung = asyncio.Event()
    descriptor = port.event_fd()

    def hear() -> None:
        # Silences the descriptor: else the loop would call this at every turn until the caller asks for a frame again.
        try:
            os.read(descriptor, 8)
        except BlockingIOError:
            pass
        rung.set()

    loop.add_reader(descriptor, hear)
    try:
        while True:
            # Before looking: what rings after the look is then seen by the next wait.
            rung.clear()
            while (frame := _next(port)) is not None:
                if frame is _END:
                    return
                assert isinstance(frame, Frame)
                yield frame
            await rung.wait()
    finally:
        loop.remove_reader(descriptor)
        port._forget_event_fd(descriptor)
        os.close(descriptor)


_END = object()


def _next(port: Input) -> object:
    """The next frame, `_END` after the last one, or `None` if none waits."""
    try:
        return port.try_receive()
    except (EndOfStreamError, StoppedError):
        return _END
