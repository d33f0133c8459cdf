"""Millpond and dora, Python to Python, in one run; and what Millpond's Python layer costs.

python compare/dora/compare.py [--rounds N] [--only ROW] [--json]

Needs `millpond`, `dora-rs`, `dora-rs-cli` and `pyarrow` in this interpreter. The two sides take turns: dora, Millpond, dora, ... The
exit status is 0 when everything is as asked, 3 when something is not.
"""

import argparse
import fcntl
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """One measurement on both sides."""

    name: str
    kind: str
    size: int
    count: int
    figure: str
    unit: str
    scale: float
    asked: float
    """Ours divided by dora's: at most that for a latency, at least that for a throughput."""

    def is_as_asked(self, ratio: float) -> bool:
        return ratio <= self.asked if self.kind == "latency" else ratio >= self.asked


ROWS = [
    Row("latency-64", "latency", 64, 500, "p50_us", "us", 1, 0.2),
    Row("latency-1m", "latency", 1 << 20, 500, "p50_us", "us", 1, 0.2),
    Row("stream-64", "throughput", 64, 20_000, "messages_per_s", "1000 msg/s", 1e-3, 10),
    Row("stream-1m", "throughput", 1 << 20, 2_000, "gb_per_s", "GB/s", 1, 2),
]
# What a call may cost, in nanoseconds: two sides of 2 us each where a message is sent and received.
ASKED_NS = {"view of a frame": 1000, "forward + receive": 4000, "loan + send + receive": 4000, "with loan + receive": 4000}


def millpond(row: Row) -> dict[str, Any]:
    # dora is so much slower at small messages that it gets fewer; here they would be over before they are counted.
    count = row.count * 20 if row.name == "stream-64" else row.count
    command = [sys.executable, HERE / "millpond_pair.py", row.kind, str(row.size), str(count)]
    return json.loads(subprocess.check_output(command, timeout=120))  # type: ignore[no-any-return]


def dora(row: Row) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "result.json"
        env = {"KIND": row.kind, "BYTES": row.size, "COUNT": row.count, "RESULT": str(result)}
        nodes = [
            {"id": "sender", "path": str(HERE / "dora_sender.py"), "outputs": ["data"], "env": env},
            {"id": "receiver", "path": str(HERE / "dora_receiver.py"), "env": env,
             "inputs": {"data": {"source": "sender/data", "queue_size": 64}}},
        ]
        dataflow = Path(directory) / "dataflow.yml"
        dataflow.write_text(json.dumps({"nodes": nodes}))  # JSON is YAML
        # dora starts the Python of the active environment, which need not be the one that runs this.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "VIRTUAL_ENV": sys.prefix}
        try:
            run = subprocess.run(
                ["dora", "run", str(dataflow)], env=environment, cwd=directory, timeout=120, capture_output=True, text=True
            )
        finally:
            remove_orphans()
        if not result.exists():
            sys.exit(f"dora failed:\n{run.stdout}\n{run.stderr}")
        return json.loads(result.read_text())  # type: ignore[no-any-return]


def remove_orphans() -> None:
    """Removes what dora's zenoh has left in shared memory: now and then a segment of a process that has ended.

    Whoever uses a segment has it locked, as zenoh itself can tell.
    """
    for path in Path("/dev/shm").glob("*.zenoh"):
        try:
            with path.open("r+b") as segment:
                fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        except (BlockingIOError, FileNotFoundError, PermissionError):
            pass  # in use, just removed by another, or another user's


def measured(row: Row, rounds: int) -> dict[str, Any]:
    """Both sides in turn; the ratio is that of the medians."""
    sides: dict[str, list[dict[str, Any]]] = {"dora": [], "millpond": []}
    for _ in range(rounds):
        sides["dora"].append(dora(row))
        sides["millpond"].append(millpond(row))
    figures = {side: [run[row.figure] * row.scale for run in runs] for side, runs in sides.items()}
    medians = {side: statistics.median(values) for side, values in figures.items()}
    ratios = [ours / theirs for ours, theirs in zip(figures["millpond"], figures["dora"], strict=True)]
    ratio = medians["millpond"] / medians["dora"]
    return {
        "row": row.name, "figure": row.figure, "unit": row.unit, "millpond": medians["millpond"], "dora": medians["dora"], "ratio": ratio,
        "per_round": [min(ratios), max(ratios)], "asked": row.asked, "is_as_asked": row.is_as_asked(ratio), "runs": sides,
    }


def overhead() -> list[dict[str, Any]]:
    costs = json.loads(subprocess.check_output([sys.executable, HERE / "overhead.py", "--json"], timeout=120))
    return [
        {"row": row, "ns": costs[row], "asked_ns": asked, "is_as_asked": costs[row] <= asked} for row, asked in ASKED_NS.items()
    ]


def scheduling() -> str:
    policies = {os.SCHED_OTHER: "normal priority", os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}
    policy = os.sched_getscheduler(0)
    priority = os.sched_getparam(0).sched_priority
    return policies.get(policy, f"policy {policy}") + (f" {priority}" if priority else "")


def main() -> int:
    parser = argparse.ArgumentParser(description="Millpond and dora, Python to Python, in one run.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side of a row runs; 3 by default")
    parser.add_argument("--only", action="append", choices=[row.name for row in ROWS] + ["overhead"], help="only this row; may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON object, with every run, instead of the table")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    machine = {
        "cpus": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0], "scheduling": scheduling(), "python": platform.python_version(),
        "dora": version("dora-rs"), "rounds": options.rounds,
    }
    if not options.json:
        print(", ".join(f"{key} {value}" for key, value in machine.items()))
        print(f"{'row':12} {'Millpond':>10} {'dora':>10} {'':12} {'ratio':>7} {'per round':>16} {'asked':>10}")
    rows = []
    for row in ROWS:
        if options.only and row.name not in options.only:
            continue
        result = measured(row, options.rounds)
        rows.append(result)
        if not options.json:
            asked = f"{'<=' if row.kind == 'latency' else '>='} {row.asked:g}"
            low, high = result["per_round"]
            print(
                f"{row.name:12} {result['millpond']:10.2f} {result['dora']:10.2f} {row.unit:12} {result['ratio']:7.3f} {f'{low:.3f} - {high:.3f}':>16} "
                f"{asked:>10}  {'' if result['is_as_asked'] else 'MISSED'}",
                flush=True,
            )
    costs = overhead() if not options.only or "overhead" in options.only else []
    if options.json:
        print(json.dumps({"machine": machine, "rows": rows, "overhead": costs}, indent=1))
    else:
        for cost in costs:
            print(f"{cost['row']:24} {cost['ns']:7.0f} ns, asked <= {cost['asked_ns']}  {'' if cost['is_as_asked'] else 'MISSED'}")
    return 0 if all(result["is_as_asked"] for result in rows + costs) else 3


if __name__ == "__main__":
    sys.exit(main())
