"""Processes that are killed at any moment: what was acknowledged is there once, what was not is there whole or not at all."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

import catalog
from lakehouse.lake import connect
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("batch", pa.int64()), ("n", pa.int64())])
ROWS = 5
WRITER = """
import sys
import pyarrow as pa
import catalog
from lakehouse.lake import connect
lake, batch = connect(sys.argv[1]), int(sys.argv[2])
table, other = lake.table("t"), lake.table("u")
print("ready", flush=True)
while True:
    data = pa.table({"batch": [batch] * 5, "n": list(range(5))})
    table.append(data)
    print("append", batch, flush=True)
    other.append(data)
    version = catalog.publish(lake, "t")
    print("publish", version.number, flush=True)
    catalog.publish(lake, "u")
    print("milestone", catalog.publish_milestone(lake, "m").version.number, flush=True)
    batch += 1
"""


@pytest.mark.parametrize("seed", range(5))
def test_killed_writers(tmp_path: Path, seed: int) -> None:
    """Two writers in turn are killed at a random moment; after each the root is whole, and the next goes on."""
    root = str(tmp_path / "lake")
    lake = make_lake(root)
    for name in ("t", "u"):
        make_table(lake, name, SCHEMA)
        catalog.publish(lake, name)
    catalog.define_milestone(lake, "m", ["t", "u"])
    draw, said = random.Random(seed), list[list[str]]()
    for life in range(2):
        said += run_and_kill(root, life * 1000, draw.uniform(0.05, 0.6))
        check(root, said)


def run_and_kill(root: str, batch: int, seconds: float) -> list[list[str]]:
    """Start a writer, kill it some time after it began, and return what it had acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, root, str(batch)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.kill()
        return [line.split() for line in process.stdout.read().splitlines()]


def check(root: str, said: list[list[str]]) -> None:
    """Look at the root as a fresh process does."""
    lake = connect(root)
    numbers = {kind: [int(n) for k, n in said if k == kind] for kind in ("append", "publish", "milestone")}
    rows = [(r["batch"], r["n"]) for r in lake.read("t").to_arrow().to_pylist()]
    batches = list(dict.fromkeys(batch for batch, _ in rows))
    assert rows == [(batch, n) for batch in batches for n in range(ROWS)]  # no batch in part, none twice
    assert set(numbers["append"]) <= set(batches)
    versions = catalog.versions.list_versions(lake, "t")
    assert [v.number for v in versions] == list(range(len(versions), 0, -1))
    assert set(numbers["publish"]) <= {v.number for v in versions}
    for version in versions:
        snapshot = lake.read(f"t@v{version.number}")
        assert snapshot.to_arrow().num_rows == version.rows == snapshot.metadata.rows
    newest = next((m for m in catalog.list_milestones(lake) if m.full_name == "main.m"), None)
    assert newest is not None
    assert max(numbers["milestone"], default=0) <= newest.last_version
    for number in range(1, newest.last_version + 1):
        members = lake.milestone(f"m/v{number}").datasets
        assert set(members) == {"main.t", "main.u"}
        for name, member in members.items():
            assert lake.read(f"{name}@m/v{number}").table_version == member.table_version
