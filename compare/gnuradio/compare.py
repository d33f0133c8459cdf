#!/usr/bin/env python3
"""Chains of copy blocks: Millpond and GNU Radio side by side, in one run.

For 1, 5 and 10 copy blocks of float items, three chains take turns, round by round:
GNU Radio in one process, Millpond with all blocks in one process, Millpond with a process for each block.
Every copy block really copies. The time is measured by each side from start to end, of the
whole flowgraph for GNU Radio, of the whole run with all its processes' starts for Millpond.

Needs Debian's package `gnuradio`, and `cargo build --release -p millpond-cli` in the main workspace.
The exit status is 0 when every ratio is as asked, 3 when one is not, 1 when something could not be measured.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
MILLPOND = HERE.parent.parent / "target" / "release" / "millpond"
# Debian's module is for Debian's Python, whichever else stands first in PATH.
PYTHON = "/usr/bin/python3"
# What is asked: items per second divided by GNU Radio's in one process.
ASKED = {"fused": 3.0, "processes": 1.0}
ITEMS_PER_BUFFER = 16384
LONGEST_RUN_S = 60


def pipeline(stages, buffers):
    names = ["source", *(f"copy{i}" for i in range(stages)), "sink"]
    copies = "".join(f'[blocks.copy{i}]\ntype = "copy"\n' for i in range(stages))
    return (
        f'name = "chain-{os.getpid()}"\nconnect = ["{" -> ".join(names)}"]\n'
        f'[blocks.source]\ntype = "null-source"\ncount = {buffers}\nitems = {ITEMS_PER_BUFFER}\n'
        f'{copies}[blocks.sink]\ntype = "null-sink"\n'
    )


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_RUN_S, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def gnuradio(stages, items):
    return json.loads(run([PYTHON, HERE / "chain.py", f"--stages={stages}", f"--items={items}"]))


def millpond(program, stages, items, options):
    buffers = items // ITEMS_PER_BUFFER
    with tempfile.TemporaryDirectory(prefix="millpond-compare-") as directory:
        file = pathlib.Path(directory, "chain.toml")
        file.write_text(pipeline(stages, buffers))
        environment = {**os.environ, "MILLPOND_RUNTIME_DIR": directory}
        start = time.perf_counter()
        shown = run([program, "run", file, *options], env=environment)
        seconds = time.perf_counter() - start
    taken = re.search(r"sink\.in +(\d+) +(\d+)", shown)
    if not taken or int(taken[2]) != buffers:
        sys.exit(f"the sink did not take {buffers} buffers:\n{shown}")
    return {"items_per_s": buffers * ITEMS_PER_BUFFER / seconds, "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", type=int, nargs="+", default=[1, 5, 10], help="numbers of copy blocks")
    parser.add_argument("--items", type=int, default=400_000_000, help="items GNU Radio sends in a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="threads of the fused process")
    parser.add_argument("--millpond", type=pathlib.Path, default=MILLPOND)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.millpond.is_file():
        parser.error(f"there is no program at {args.millpond}: build it, or say where it is with --millpond")

    program = args.millpond.resolve()
    fused = ["--fused", f"--threads={args.threads}"]
    # So many times the items, so that starting processes does not count for more than it does for the other.
    sides = {
        "gnuradio": lambda stages: gnuradio(stages, args.items),
        "fused": lambda stages: millpond(program, stages, args.items * 5, fused),
        "processes": lambda stages: millpond(program, stages, args.items, []),
    }
    rows = []
    for stages in args.stages:
        results = {side: [] for side in sides}
        for _ in range(args.rounds):
            for side, measure in sides.items():
                results[side].append(measure(stages))
        rates = {side: [result["items_per_s"] for result in runs] for side, runs in results.items()}
        medians = {side: statistics.median(values) for side, values in rates.items()}
        ratios = {side: medians[side] / medians["gnuradio"] for side in ASKED}
        rows.append({"stages": stages, "items_per_s": rates, "medians": medians, "ratios": ratios})
        version = results["gnuradio"][0]["version"]

    met = all(row["ratios"][side] >= asked for row in rows for side, asked in ASKED.items())
    if args.json:
        print(json.dumps({"gnuradio": version, "asked": ASKED, "met": met, "rows": rows}))
    else:
        print(f"Millions of float items a second through copy blocks (GNU Radio {version}; medians of {args.rounds})\n")
        print("copies  GNU Radio  Millpond, 1 process  ratio (>= 3)  Millpond, processes  ratio (>= 1)")
        for row in rows:
            medians, ratios = row["medians"], row["ratios"]
            print(
                f"{row['stages']:>6}  {medians['gnuradio'] / 1e6:>9.0f}  {medians['fused'] / 1e6:>19.0f}  "
                f"{ratios['fused']:>12.2f}  {medians['processes'] / 1e6:>19.0f}  {ratios['processes']:>12.2f}"
            )
    sys.exit(0 if met else 3)


if __name__ == "__main__":
    main()
