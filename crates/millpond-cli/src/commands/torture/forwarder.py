"""A forwarder of `millpond torture`: writes down what it receives, holds some frames, and passes them on."""

import os
import struct
import sys
import time
from collections import deque

import millpond

name, input_name, output_name, hold = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
pond = millpond.Pond.attach(name)


def after_predecessor(open_port):
    """Opens a port as soon as the process that had it is dead."""
    while True:
        try:
            return open_port()
        except millpond.PortInUseError:
            time.sleep(0.001)


output = after_predecessor(lambda: pond.output(output_name))
source = after_predecessor(lambda: pond.input(input_name))
held = deque()
ended = False
while held or not ended:
    try:
        frame = source.receive(timeout=0 if ended else 0.05)
        origin, number = struct.unpack_from("<QQ", frame)
        # In one write, before anything else is done with it.
        os.write(1, struct.pack("<IIQQQ", origin >> 32, origin & 0xFFFFFFFF, number, int(frame.redelivered), 0))
        held.append(frame)
    except (TimeoutError, millpond.SenderDiedError):
        pass
    except millpond.EndOfStreamError:
        ended = True
    if len(held) > hold or (held and (ended or source.queued == 0)):
        output.send(held.popleft())
