"""Millpond and dora, Python to Python, in one run: needs `millpond`, `dora-rs`, `dora-rs-cli` and `pyarrow` in this interpreter.

python compare/dora/compare.py [ROUNDS]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROWS = [("latency", 64, 500), ("latency", 1 << 20, 500), ("throughput", 64, 20_000), ("throughput", 1 << 20, 2_000)]


def millpond(kind: str, size: int, count: int) -> dict[str, float]:
    # dora is so much slower at small messages that it gets fewer; here they would be over before they are counted.
    count = count * 20 if (kind, size) == ("throughput", 64) else count
    command = [sys.executable, HERE / "millpond_pair.py", kind, str(size), str(count)]
    return json.loads(subprocess.check_output(command, timeout=120))  # type: ignore[no-any-return]


def dora(kind: str, size: int, count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "result.json"
        env = {"KIND": kind, "BYTES": size, "COUNT": count, "RESULT": str(result)}
        nodes = [
            {"id": "sender", "path": str(HERE / "dora_sender.py"), "outputs": ["data"], "env": env},
            {"id": "receiver", "path": str(HERE / "dora_receiver.py"), "env": env,
             "inputs": {"data": {"source": "sender/data", "queue_size": 64}}},
        ]
        dataflow = Path(directory) / "dataflow.yml"
        dataflow.write_text(json.dumps({"nodes": nodes}))  # JSON is YAML
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        run = subprocess.run(
            ["dora", "run", str(dataflow)], env=os.environ | {"PATH": path}, cwd=directory, timeout=120, capture_output=True, text=True
        )
        if not result.exists():
            sys.exit(f"dora failed:\n{run.stdout}\n{run.stderr}")
        return json.loads(result.read_text())  # type: ignore[no-any-return]


for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
    for row in ROWS:
        for engine in (dora, millpond):
            measured = engine(*row)
            print(
                f"{engine.__name__:9} {row[0]:11} {row[1]:8} B  p50 {measured['p50_us']:9.1f} us  p99 {measured['p99_us']:9.1f} us  "
                f"{measured['messages_per_s']:10.0f} msg/s  {measured['gb_per_s']:6.2f} GB/s  ({measured['messages']} received)",
                flush=True,
            )
