"""Long histories made quickly: log entries as delta-rs writes them, without running it for each commit."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

import catalog
import lakehouse
from lakehouse.decisions import Dataset, DatasetVersion, Decision, Name

SCHEMA = pa.schema([("id", pa.int64()), ("value", pa.float64())])
_LINKS = 10_000
ROWS = pa.table({"id": range(10), "value": [0.5] * 10}, schema=SCHEMA)


def dataset_with(lake: lakehouse.Lake, name: str, commits: int, adds: int = 1, removes: int = 0) -> Dataset:
    """Make a dataset with so many commits on top of #0.

    Args:
        adds: Files that each commit adds; their bytes are one file, linked under many names.
        removes: Of the oldest files, how many each commit removes, as long as there are more than `adds`.
    """
    dataset = catalog.create_dataset(lake, name, SCHEMA, key=["id"])
    table = lake.table(name)
    table.append(ROWS)
    folder = Path(lake.storage.uri(dataset.location))
    first = next(folder.glob("part-*.parquet"))
    lines = [json.loads(line) for line in (folder / "_delta_log" / f"{1:020d}.json").read_text().splitlines()]
    template = {next(iter(line)): line for line in lines}
    add, now = template["add"]["add"], time.time_ns() // 1_000_000
    listed: list[str] = [first.name]
    source = first
    for version in range(2, commits + 1):
        info = template["commitInfo"]["commitInfo"] | {"timestamp": now + version}
        actions: list[dict[str, object]] = [{"commitInfo": info}]
        for n in range(adds):
            path = f"part-{version:08d}-{n}.parquet"
            if source.stat().st_nlink >= _LINKS:  # a file system has a limit
                source = Path(shutil.copy(source, folder / path))
            else:
                os.link(source, folder / path)
            listed.append(path)
            actions.append({"add": add | {"path": path, "modificationTime": now + version}})
        for path in listed[:removes] if len(listed) > adds + removes else []:
            gone = {"path": path, "deletionTimestamp": now + version, "dataChange": True, "size": add["size"]}
            actions.append({"remove": gone | {"extendedFileMetadata": True, "partitionValues": {}}})
        del listed[: removes if len(listed) > adds + removes else 0]
        actions.append({"txn": {"appId": f"write-{uuid4().hex}", "version": 0, "lastUpdated": now + version}})
        (folder / "_delta_log" / f"{version:020d}.json").write_text("\n".join(map(json.dumps, actions)) + "\n")
        if version % 1_000 == 0 or version == commits:
            table.open(version).create_checkpoint()
    return dataset


def pin(lake: lakehouse.Lake, dataset: Dataset, versions: Sequence[int]) -> None:
    """Decide published versions of these table versions, in one commit."""
    now = datetime.now(UTC)
    name = lake.state().get(Name, dataset.full_name.casefold())
    assert name is not None
    values = [
        DatasetVersion(
            series=name.series,
            number=number,
            dataset_id=dataset.dataset_id,
            full_name=dataset.full_name,
            table_version=version,
            data_tag="FINAL",
            rows=0,
            files=0,
            bytes=0,
            committed_at=now,
            created_at=now,
        )
        for number, version in enumerate(versions, 1)
    ]
    lake.ledger.decide(lambda _: (None, [Decision.put("bench", value) for value in values]))
