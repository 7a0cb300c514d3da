"""Publishing: one commit whatever the table's size, and milestones of 3 and of 1,000 members.

python benchmarks/bench_publish.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from _timing import compare

import catalog
import lakehouse
from lakehouse.decisions import Dataset, DatasetVersion, Decision, Name
from lakehouse.ledger import State

SMALL, LARGE = 100_000, 10_000_000
ROUNDS = 9
BATCH = pa.table({"id": pa.array(range(1_000), pa.int64()), "value": pa.array(range(1_000), pa.float64())})


def filled(lake: lakehouse.Lake, name: str, rows: int) -> None:
    """Make a published dataset of so many rows."""
    catalog.create_dataset(lake, name, BATCH.schema, key=["id"])
    for start in range(0, rows, 1_000_000):
        count = min(1_000_000, rows - start)
        ids = np.arange(start, start + count)
        lake.table(name).append(pa.table({"id": ids, "value": ids * 0.5}))
    catalog.publish(lake, name)


def publish_after_change(lake: lakehouse.Lake, name: str) -> None:
    """Append the same thousand rows and publish."""
    lake.table(name).append(BATCH)
    before = lake.ledger.state().seq
    catalog.publish(lake, name)
    assert lake.ledger.state().seq == before + 1, "publishing is one commit of the ledger"


def members(lake: lakehouse.Lake, prefix: str, count: int) -> list[str]:
    """Decide `count` published datasets in one commit: their tables play no part in publishing a milestone."""
    base = catalog.show_dataset(lake, "bench.small").dataset
    version = lake.resolve("bench.small@v1").version
    assert version is not None
    names = [f"bench.{prefix}_{i}" for i in range(count)]

    def rule(_: State) -> tuple[None, list[Decision]]:
        decisions = []
        for i, full in enumerate(names):
            own: dict[str, object] = {"dataset_id": f"{prefix}{i:029d}"}
            fields = {f: getattr(base, f) for f in Dataset.__slots__}
            decisions.append(Decision.put("bench", Dataset(**fields | own | {"name": full[6:], "location": full})))
            decisions.append(
                Decision.put(
                    "bench", Name(full_name=full, series=full, dataset_id=str(own["dataset_id"]), last_version=1)
                )
            )
            fields = {f: getattr(version, f) for f in DatasetVersion.__slots__}
            decisions.append(
                Decision.put("bench", DatasetVersion(**fields | own | {"series": full, "full_name": full}))
            )
        return None, decisions

    lake.ledger.decide(rule)
    return names


def milestones(lake: lakehouse.Lake, count: int) -> list[str]:
    """Define milestones of so many members that are ready to be published, one for each round."""
    names = members(lake, f"m{count}", count)
    return [
        catalog.define_milestone(lake, f"bench.of{count}_{n}", names, policy="manual").full_name for n in range(ROUNDS)
    ]


def main() -> None:
    """Run it."""
    with tempfile.TemporaryDirectory() as folder:
        lake = lakehouse.init(Path(folder) / "lake")
        filled(lake, "bench.small", SMALL)
        filled(lake, "bench.large", LARGE)
        compare(
            f"publish: {LARGE:,} rows vs {SMALL:,} rows",
            lambda: publish_after_change(lake, "bench.large"),
            {"small": lambda: publish_after_change(lake, "bench.small")},
            9,
            "<= 1.5x",
        )
        ready = {count: iter(milestones(lake, count)) for count in (3, 1_000)}
        compare(
            "milestone: 1,000 members vs 3",
            lambda: catalog.publish_milestone(lake, next(ready[1_000])),
            {"3 members": lambda: catalog.publish_milestone(lake, next(ready[3]))},
            ROUNDS,
            "<= 3x",
        )


if __name__ == "__main__":
    main()
