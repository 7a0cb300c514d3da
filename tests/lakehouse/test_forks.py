"""Forked processes: told what they can't do, never a panic."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_forked_process_is_told_that_it_cannot_open(tmp_path: Path) -> None:
    """What needs the Delta log is refused after a fork, not a panic; a fork before any use opens what it likes."""
    script = """
import os, sys
import pyarrow as pa
import catalog, lakehouse
from lakehouse.errors import StateError

def in_child(*actions):
    child = os.fork()
    if child == 0:
        kinds = []
        for action in actions:
            try:
                action()
                kinds.append("fine")
            except StateError as error:
                kinds.append(error.kind)
        print(*kinds, flush=True)
        os._exit(0)
    os.waitpid(child, 0)

def work():
    lake = lakehouse.init(sys.argv[1])
    catalog.create_dataset(lake, "t", pa.schema([("id", pa.int64())]))
    lake.table("t").append(pa.table({"id": [1]}))
    catalog.publish(lake, "t")

in_child(work)
lake = lakehouse.connect(sys.argv[1])
snapshot = lake.read("t@v1")
in_child(lambda: lake.read("t"), lambda: lakehouse.connect(sys.argv[1]).read("t"), lambda: snapshot.metadata,
         lambda: lake.table("t").version(), snapshot.to_arrow)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", script, str(tmp_path / "lake")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    refused = " ".join(["fork-unsupported"] * 4)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, ["fine", f"{refused} fine"], "")


def test_a_forked_process_compares_by_files(tmp_path: Path) -> None:
    """States that were opened before the fork are compared without the log: no stored changes and no feed."""
    script = """
import os, sys
import pyarrow as pa
import catalog, lakehouse

lake = lakehouse.init(sys.argv[1])
catalog.create_dataset(lake, "t", pa.schema([("id", pa.int64()), ("n", pa.int64())]), key=["id"])
for start in range(0, 100, 10):
    lake.table("t").append(pa.table({"id": list(range(start, start + 10)), "n": [0] * 10}))
catalog.publish(lake, "t")
lake.table("t").merge(pa.table({"id": [3], "n": [1]}))
catalog.publish(lake, "t")
here, there = lake.diff("t@v1", "t@v2"), lake.diff("t@v1", "t@v2")
print(here.via, here.counts.changed, flush=True)
if os.fork() == 0:
    print(there.via, there.counts.changed, flush=True)
    os._exit(0)
os.wait()
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", script, str(tmp_path / "lake")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, ["stored 1", "files 1"], "")
