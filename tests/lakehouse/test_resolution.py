"""Resolution: what each selector stands for, and what each mistake is called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

import pyarrow as pa
import pytest

import catalog
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError, StateError
from lakehouse.lake import Lake, connect
from lakehouse.references import AsOf, Reference
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64())])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with the dataset `ns.photos`: table versions 0 to 4, of which #1, #2 and #3 are v1, v2 and v3."""
    made = make_lake(str(tmp_path_factory.mktemp("lake")))
    table = make_table(made, "ns.photos", SCHEMA)
    for number, data_tag in enumerate(["FINAL", "DRAFT", "FINAL"], start=1):
        table.append(pa.table({"id": [number]}))
        catalog.publish(made, "ns.photos", data_tag=data_tag)
    catalog.set_tag(made, "ns.photos@v2", "prod")
    catalog.define_milestone(made, "spring", ["ns.photos"], policy="manual")
    catalog.define_milestone(made, "ns.empty", ["ns.photos"], policy="manual")
    catalog.publish_milestone(made, "spring")
    table.append(pa.table({"id": [4]}))
    catalog.publish(made, "ns.photos", data_tag="gold")
    catalog.publish_milestone(made, "spring")
    table.append(pa.table({"id": [5]}))
    made.snapshot("run-1", ["ns.photos@v1"])
    make_table(made, "gone", SCHEMA)
    catalog.delete_dataset(made, "gone")
    return made


@pytest.mark.parametrize(
    ("selector", "table_version", "version"),
    [
        ("", 5, None),
        ("@head", 5, None),
        ("@HEAD", 5, None),
        ("@latest", 4, 4),
        ("@v1", 1, 1),
        ("@V3", 3, 3),
        ("@#0", 0, None),
        ("@#1", 1, 1),
        ("@#5", 5, None),
        ("@FINAL", 3, 3),
        ("@draft", 2, 2),
        ("@Gold", 4, 4),
        ("@prod", 2, 2),
        ("@spring/v1", 3, 3),
        ("@main.spring/latest", 4, 4),
        ("@spring/FINAL", 3, 3),
        ("@snap:run-1", 1, 1),
        ("@SNAP:RUN-1", 1, 1),
    ],
)
def test_selectors(lake: Lake, selector: str, table_version: int, version: int | None) -> None:
    """Each selector stands for its table version and, where there is one, the published version."""
    snapshot = lake.read(f"NS.Photos{selector}")
    assert snapshot.table_version == table_version
    assert (snapshot.version and snapshot.version.number) == version
    assert snapshot.to_arrow().column("id").to_pylist() == list(range(1, table_version + 1))


def test_times(lake: Lake) -> None:
    """A time stands for the newest commit at or before it: exactly at it counts, a moment earlier does not."""
    log = {e.table_version: e.created_at for e in lake.table("ns.photos").log()}
    for number, time in log.items():
        last = max(v for v, t in log.items() if t == time)
        assert lake.resolve(Reference("ns", "photos", AsOf(time))).table_version == last
        if number and log[number - 1] < time:
            before = lake.resolve(Reference("ns", "photos", AsOf(time - timedelta(microseconds=1))))
            assert before.table_version == number - 1
    assert lake.read(f"ns.photos@{datetime.now(UTC).isoformat()}").num_rows >= 0


MISTAKES = [
    ("ns.photo", "dataset-not-found", "Did you mean 'ns.photos'"),
    ("photos", "dataset-not-found", "Did you mean 'ns.photos'"),
    ("gone", "dataset-deleted", "undrop main.gone"),
    ("gone@#0", "dataset-deleted", "undrop"),
    ("gone@v1", "version-not-found", "none was published yet"),
    ("gone@latest", "version-not-found", "none was published yet"),
    ("ns.photos@v9", "version-not-found", "it has v1 to v4"),
    ("ns.photos@#99", "version-not-found", "99"),
    ("ns.photos@2001-01-01", "before-first-commit", "did not exist"),
    ("ns.photos@prd", "tag-not-found", "Did you mean 'prod'"),
    ("ns.photos@springs/v1", "milestone-not-found", "Did you mean 'spring'"),
    ("ns.photos@spring/v9", "milestone-version-not-found", "it has v1 to v2"),
    ("ns.photos@spring/DRAFT", "milestone-version-not-found", "DRAFT"),
    ("ns.photos@ns.empty/latest", "milestone-version-not-found", "none was published"),
    ("gone@spring/v1", "not-a-member", "Members: ns.photos"),
    ("gone@snap:run-1", "not-a-member", "Members: ns.photos"),
    ("ns.photos@snap:run-2", "snapshot-not-found", "Did you mean 'run-1'"),
]


@pytest.mark.parametrize(("reference", "kind", "words"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistakes(lake: Lake, reference: str, kind: str, words: str) -> None:
    """What does not exist has a kind of its own and a message that helps."""
    with pytest.raises(NotFoundError) as caught:
        lake.read(reference)
    assert caught.value.kind == kind
    assert words in str(caught.value)


def test_no_reference(lake: Lake) -> None:
    """Text that is no reference is wrong input, not something that is missing."""
    with pytest.raises(InvalidInputError) as caught:
        lake.read("ns.photos@v01@x")
    assert caught.value.kind == "reference-invalid"


def test_time_before_a_cleaned_log(tmp_path: Path) -> None:
    """A time whose log entries are gone is told as such, not as a time before the dataset existed."""
    lake = make_lake(str(tmp_path / "lake"))
    table = make_table(lake, "photos", SCHEMA)
    for number in range(3):
        table.append(pa.table({"id": [number]}))
    table.open().create_checkpoint()
    folder = Path(lake.storage.uri(table.dataset.location)) / "_delta_log"
    first = table.log()[-1].created_at
    for keep in (3, 4):  # some entries are left, then none
        for entry in folder.glob("*.json"):
            if int(entry.stem) < keep:
                entry.unlink()
        with pytest.raises(NotFoundError) as caught:
            lake.read(Reference("main", "photos", AsOf(first)))
        assert caught.value.kind == "version-folded"


def test_expired_snapshot(lake: Lake) -> None:
    """An expired snapshot is known but no longer promises anything."""
    until = datetime.now(UTC) + timedelta(seconds=0.2)
    lake.snapshot("old", ["ns.photos"], expires=until)
    sleep(max(0.0, (until - datetime.now(UTC)).total_seconds() + 0.01))
    with pytest.raises(StateError) as caught:
        lake.read("ns.photos@snap:old")
    assert caught.value.kind == "snapshot-expired"


def test_resolving_opens_no_table(lake: Lake, tmp_path: Path) -> None:
    """Published references resolve from the ledger alone, even when the table is away."""
    location = Path(lake.storage.uri(lake.table("ns.photos").dataset.location))
    location.rename(tmp_path / "away")
    try:
        assert lake.resolve("ns.photos@spring/v1").table_version == 3
        with pytest.raises(LakeError) as caught:
            connect(lake.root).read("ns.photos@spring/v1")
        assert caught.value.kind == "table-missing"
    finally:
        (tmp_path / "away").rename(location)
