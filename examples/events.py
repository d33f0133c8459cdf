#!/usr/bin/env python3
"""Makes events for `millpond align`, as CSV on standard output: streams at different rates with jitter, drop-outs and network delay.

    examples/events.py --events 1000000 --rates 1000,995,500 > events.csv
    millpond align --policy nearest --stats json events.csv > sets.csv
"""

import argparse
import math
import random

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--events", type=int, default=10_000, help="how many events")
arguments.add_argument("--rates", default="200,100,30", help="rates of the streams in Hz")
arguments.add_argument("--jitter", type=float, default=0.1, help="of the stamps, as a part of the period")
arguments.add_argument("--drop", type=float, default=0.01, help="part of the events that is lost")
arguments.add_argument("--delay", type=int, default=1_000_000, help="longest delay from stamp to arrival in ns")
arguments.add_argument("--start", type=int, default=1_700_000_000_000_000_000, help="first stamp in ns")
arguments.add_argument("--disorder", action="store_true", help="the delay of each event is its own, so events overtake each other")
arguments.add_argument("--seed", type=int, default=1)
given = arguments.parse_args()

rng = random.Random(given.seed)
rates = [float(rate) for rate in given.rates.split(",")]
events = []
for stream, rate in enumerate(rates):
    period = 1e9 / rate
    arrival = 0
    for number in range(int(given.events * rate / sum(rates))):
        if rng.random() < given.drop:
            continue
        stamp = given.start + round((number + given.jitter * (rng.random() - 0.5)) * period)
        own = stamp + round(given.delay * rng.random())
        # Without disorder a stream is a queue: nothing arrives before what was sent earlier.
        arrival = own if given.disorder else max(arrival, own)
        value = math.sin(number / rate * 2 * math.pi) + stream
        events.append((arrival, stream, number, stamp, value))
events.sort()
print("stream,stamp_ns,value,arrival_ns,seq")
for arrival, stream, number, stamp, value in events:
    print(f"{stream},{stamp},{value},{arrival},{number}")
