"""Datasets made by a query: rows, key, lineage, refresh, and what a killed process leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import catalog
import jobs
from catalog.schema_formats import SchemaSpec
from jobs.query import QueryReport
from lakehouse.decisions import Cursor, Dataset, Lease
from lakehouse.errors import AccessDeniedError, InvalidInputError, LakeError, NotFoundError, StateError
from lakehouse.lake import Lake
from lakehouse.registry import columns_of
from tests.support.lakes import make_lake, make_table, read

PHOTOS = pa.schema([("id", pa.int64()), ("label", pa.string()), ("taken_at", pa.timestamp("us", tz="UTC"))])
LABELS = pa.schema([("label", pa.string()), ("text", pa.string())])
SEVENS = "select id, label from \"photos@latest\" where label = '7'"


def photos(*given: tuple[int, str]) -> pa.Table:
    """Return photos, one taken each day of 2026."""
    day = datetime(2026, 1, 1, tzinfo=UTC)
    return pa.table(
        {
            "id": [i for i, _ in given],
            "label": [label for _, label in given],
            "taken_at": [day + timedelta(days=i) for i, _ in given],
        },
        schema=PHOTOS,
    )


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lakehouse on each backend with `photos` (key `id`) and `labels`, each with a published version."""
    lake = make_lake(root_uri, actor="ada")
    make_table(lake, "photos", PHOTOS, key=["id"]).append(photos(*((i, str(i % 10)) for i in range(40, 0, -1))))
    make_table(lake, "labels", LABELS, key=["label"]).append(
        pa.table({"label": ["7", "8"], "text": ["seven", "eight"]})
    )
    catalog.publish(lake, "photos", data_tag="FINAL")
    catalog.publish(lake, "labels", data_tag="FINAL")
    return lake


def publish_changes(lake: Lake) -> None:
    """Publish a version of `photos` with a seven less, one more, and one that is another photo's now."""
    table = lake.table("photos")
    table.delete("id = 7")
    table.merge(photos((3, "7"), (17, "1"), (50, "7")))
    catalog.publish(lake, "photos")


def counted(report: QueryReport) -> tuple[int, int, int]:
    """Return the rows added, removed and changed."""
    return report.added, report.removed, report.changed


def test_the_verdict_names_the_columns_of_the_query(lake: Lake) -> None:
    """A change of a column concerns a made dataset when the query names the column, in any case, or the dataset has it."""
    jobs.create_from_query(lake, "sevens", "select ID from \"photos@latest\" where LABEL = '7'")
    jobs.create_from_query(lake, "whole", 'from "photos@latest"')
    dropped = catalog.check_schema(lake, "photos", SchemaSpec(columns_of(PHOTOS)[:1]))
    assert [(u.name, u.columns) for u in dropped.users if u.kind == "dataset"] == [
        ("main.sevens", ("label",)),
        ("main.whole", ("label", "taken_at")),
    ]


# -- making -------------------------------------------------------------------------------------------------------


def test_a_query_makes_a_dataset(lake: Lake) -> None:
    """It has the rows, sorted by the key of what was read, whose child it is; runs and lineage know, both ways."""
    made = jobs.create_from_query(lake, "sevens", SEVENS, description="all sevens")
    assert read(lake, "sevens") == [(7, "7"), (17, "7"), (27, "7"), (37, "7")]
    assert (made.rows, [(i.reference, i.resolved) for i in made.inputs]) == (
        4,
        [("main.photos@latest", "main.photos@v1")],
    )
    own = catalog.show_dataset(lake, "sevens").dataset
    assert (own.key_columns, own.query_run, own.description, own.owner) == (("id",), made.run, "all sevens", "ada")
    assert catalog.show_dataset(lake, "photos").children == ["main.sevens"]
    [edge] = catalog.lineage(lake, "sevens")
    assert (edge.job, edge.run, edge.input, edge.output) == ("query", made.run, "main.photos@#1", "main.sevens@#1")
    assert (edge.parameters or {})["query"] == SEVENS
    assert edge.counts == {"rows": 4}
    [forward] = catalog.lineage(lake, "photos@v1", forward=True)
    assert forward.output == "main.sevens@#1"
    assert [*lake.state().all(Lease), *lake.state().all(Cursor)] == []
    found = jobs.query_of(lake, "sevens")
    assert found is not None
    assert (found.sql, found.run, found.inputs) == (SEVENS, made.run, made.inputs)
    assert jobs.query_of(lake, "photos") is None


def test_the_ledger_does_not_hold_the_sql(lake: Lake) -> None:
    """The SQL may hold values of rows; neither the ledger nor the log of the dataset has it."""
    jobs.create_from_query(lake, "sevens", "select * from \"photos@v1\" where label <> 'Ann Example'")
    jobs.refresh_from_query(lake, "sevens", "select * from \"photos@v1\" where label <> 'Ben Example'")
    assert "Example" not in str(lake.ledger.history().to_pylist())
    log = lake.storage.list(f"{lake.table('sevens').dataset.location}/_delta_log")
    assert all(b"Example" not in lake.storage.get(entry.key) for entry in log)


def test_a_made_dataset_is_one_like_any_other(lake: Lake) -> None:
    """It is published, is a member of a milestone, is checked, and stays when what it was made from is cleaned up."""
    jobs.create_from_query(lake, "sevens", SEVENS)
    catalog.add_check(lake, "sevens", "accepted_values", columns=["label"], parameters={"values": ["7"]})
    catalog.define_milestone(lake, "spring", ["sevens"])
    assert catalog.publish(lake, "sevens", data_tag="FINAL").number == 1
    assert catalog.publish_milestone(lake, "spring").version.number == 1
    lake.table("photos").delete("true")
    catalog.publish(lake, "photos")
    catalog.expire(lake, "photos", keep_last=1)
    catalog.vacuum(lake, "photos", keep_for=timedelta(0))
    assert [i for i, _ in read(lake, "sevens@spring/v1")] == [7, 17, 27, 37]
    assert catalog.verify(lake).ok


def test_subsets_in_time_and_joins(lake: Lake) -> None:
    """A point in time selects rows; a join of two datasets has both as inputs, and no key or parent by itself."""
    time = "select id from \"photos@v1\" where taken_at < timestamptz '2026-01-04'"
    jobs.create_from_query(lake, "early", time)
    assert read(lake, "early") == [(1,), (2,)]
    join = """select p.id, l.text from "photos@FINAL" p join "labels@FINAL" l using (label)"""
    made = jobs.create_from_query(lake, "texts", f"{join} order by p.id")
    assert read(lake, "texts")[:3] == [(7, "seven"), (8, "eight"), (17, "seven")]
    own = catalog.show_dataset(lake, "texts").dataset
    assert (own.key_columns, own.parent) == ((), None)
    edges = catalog.lineage(lake, f"texts@#{made.table_version}")
    assert {edge.input for edge in edges} == {"main.photos@#1", "main.labels@#1"}
    jobs.create_from_query(lake, "keyed", join, key=["id"])
    assert [i for i, _ in read(lake, "keyed")] == [7, 8, 17, 18, 27, 28, 37, 38]


def test_the_members_of_a_milestone(lake: Lake) -> None:
    """Members are read as they were published together."""
    catalog.define_milestone(lake, "spring", ["photos", "labels"])
    catalog.publish_milestone(lake, "spring")
    publish_changes(lake)
    made = jobs.create_from_query(
        lake, "texts", 'select id, text from "photos@spring/v1" join "labels@spring/v1" using (label)', key=["id"]
    )
    assert [i for i, text in read(lake, "texts") if text == "seven"] == [7, 17, 27, 37]
    assert [i.resolved for i in made.inputs] == ["main.photos@v1", "main.labels@v1"]


def test_two_versions_of_one_dataset(lake: Lake) -> None:
    """Both are inputs, and the key is that of the dataset."""
    publish_changes(lake)
    jobs.create_from_query(lake, "gone", 'from "photos@v1" anti join "photos@v2" using (id)')
    assert [row[0] for row in read(lake, "gone")] == [7]
    assert {edge.input for edge in catalog.lineage(lake, "gone")} == {"main.photos@#1", "main.photos@#3"}
    assert catalog.show_dataset(lake, "gone").dataset.key_columns == ("id",)


def test_no_rows_are_an_empty_dataset(lake: Lake) -> None:
    """Its columns are there, and rows may come later."""
    made = jobs.create_from_query(lake, "none", 'from "photos@latest" where id > 45')
    assert (made.rows, lake.read("none").schema) == (0, PHOTOS)
    found = jobs.query_of(lake, "none")
    assert found is not None
    assert found.run == made.run
    publish_changes(lake)
    assert counted(jobs.refresh_from_query(lake, "none")) == (1, 0, 0)


@pytest.mark.parametrize(
    ("sql", "key", "kind"),
    [
        ('select label from "photos@v1"', ["label"], "key-not-unique"),
        ('select id % 7 as id from "photos@v1"', None, "key-not-unique"),
        ('select if(id = 3, null, id) as id from "photos@v1"', None, "key-null"),
        ('select label from "photos@v1"', ["id"], "key-invalid"),
        ('select [id] as ids from "photos@v1"', ["ids"], "key-invalid"),
        ('select id, id from "photos@v1"', None, "duplicate-column"),
        ("from photos", None, "query-unpinned"),
        ('select id // 0.5::decimal(3, 1) from "photos@v1" where', None, "sql-invalid"),
        ("select cast(label || 'x' as int) as n from \"photos@v1\"", None, "sql-invalid"),
    ],
)
def test_what_is_refused_makes_nothing(tmp_path: Path, sql: str, key: list[str] | None, kind: str) -> None:
    """An error names what is wrong, and no dataset is there."""
    lake = make_lake(str(tmp_path / "lake"))
    make_table(lake, "photos", PHOTOS, key=["id"]).append(photos(*((i, str(i % 10)) for i in range(20))))
    catalog.publish(lake, "photos")
    with pytest.raises(InvalidInputError) as error:
        jobs.create_from_query(lake, "bad", sql, key=key)
    assert error.value.kind == kind
    with pytest.raises(NotFoundError):
        lake.read("bad")
    assert list(lake.state().all(Lease)) == []


def test_a_name_that_is_taken_is_refused(lake: Lake) -> None:
    """The dataset that has it stays as it is."""
    with pytest.raises(StateError) as error:
        jobs.create_from_query(lake, "labels", SEVENS)
    assert error.value.kind == "dataset-exists"
    assert len(read(lake, "labels")) == 2


def test_assets_keep_their_bytes(lake: Lake, folder: Callable[..., Path]) -> None:
    """A subset of assets is assets; their bytes stay in their namespace, and are read from there."""
    source = folder({f"{i}.png": i for i in range(4)})
    jobs.ingest(lake, source, dataset="vision.images")
    catalog.publish(lake, "vision.images")
    sql = "from \"vision.images@v1\" where path < '2'"
    jobs.create_from_query(lake, "vision.some", sql)
    assert catalog.show_dataset(lake, "vision.some").dataset.kind == "assets"
    for asset in lake.read("vision.some").assets(["path"]):
        assert asset.data == (source / asset.row["path"]).read_bytes()
    assert jobs.run_features(lake, "vision.some", workers=1).processed == 2
    with pytest.raises(InvalidInputError) as error:
        jobs.create_from_query(lake, "elsewhere", sql)
    assert error.value.kind == "query-namespace"
    jobs.create_from_query(lake, "paths", 'select path from "vision.images@v1"')
    assert catalog.show_dataset(lake, "paths").dataset.kind == "table"


# -- refreshing ---------------------------------------------------------------------------------------------------


def test_a_refresh_touches_what_differs(lake: Lake) -> None:
    """References are looked up again; one commit has the difference, so that versions differ by it."""
    jobs.create_from_query(lake, "sevens", SEVENS)
    catalog.publish(lake, "sevens")
    publish_changes(lake)
    done = jobs.refresh_from_query(lake, "sevens")
    assert (counted(done), done.table_version, done.rows) == ((2, 2, 0), 2, 4)
    assert [(i.before, i.resolved) for i in done.inputs] == [("main.photos@v1", "main.photos@v2")]
    assert sorted(read(lake, "sevens")) == [(3, "7"), (27, "7"), (37, "7"), (50, "7")]
    catalog.publish(lake, "sevens")
    counts = lake.diff("sevens@v1", "sevens@v2").counts
    assert (counts.added, counts.removed, counts.changed) == (2, 2, 0)
    newest = lake.table("sevens").log(1)[0]
    assert (newest.run, newest.message) == (done.run, "refreshed from main.photos@v2")
    assert catalog.lineage(lake, "sevens")[0].input == "main.photos@#3"
    found = jobs.query_of(lake, "sevens")
    assert found is not None
    assert (found.run, [i.resolved for i in found.inputs]) == (done.run, ["main.photos@v2"])


def test_nothing_new_is_no_commit(lake: Lake) -> None:
    """The same versions and the same query are not run again; other versions with the same rows are, without a commit."""
    jobs.create_from_query(lake, "sevens", SEVENS)
    again = jobs.refresh_from_query(lake, "sevens")
    assert (again.run, counted(again), again.table_version) == (None, (0, 0, 0), 1)
    lake.table("photos").append(photos((60, "1")))
    catalog.publish(lake, "photos")
    run = jobs.refresh_from_query(lake, "sevens")
    assert (run.run is None, counted(run), run.table_version) == (False, (0, 0, 0), 1)
    assert lake.table("sevens").version() == 1
    assert jobs.refresh_from_query(lake, "sevens").run is None
    assert {edge.input for edge in catalog.lineage(lake, "sevens")} == {"main.photos@#1", "main.photos@#2"}


def test_fixed_references_stay(lake: Lake) -> None:
    """`@v1` means the same after more is published; a data tag moves on."""
    jobs.create_from_query(lake, "fixed", 'select id from "photos@v1"')
    jobs.create_from_query(lake, "final", 'select id from "photos@FINAL"')
    publish_changes(lake)
    assert jobs.refresh_from_query(lake, "fixed").run is None
    assert jobs.refresh_from_query(lake, "final").run is None
    catalog.promote(lake, "photos@v2", "FINAL")
    assert counted(jobs.refresh_from_query(lake, "final")) == (1, 1, 0)


def test_rows_of_others_go(lake: Lake) -> None:
    """A refresh makes the rows those of the query again."""
    jobs.create_from_query(lake, "sevens", SEVENS)
    lake.table("sevens").append(pa.table({"id": [99], "label": ["x"]}))
    assert counted(jobs.refresh_from_query(lake, "sevens")) == (0, 1, 0)
    assert [i for i, _ in read(lake, "sevens")] == [7, 17, 27, 37]


def test_another_query_from_now_on(lake: Lake) -> None:
    """It may add columns and is remembered; one that lacks a column or the key is refused, and nothing changes."""
    jobs.create_from_query(lake, "sevens", SEVENS)
    wider = "select id, label, id * 2 as twice from \"photos@latest\" where label = '8'"
    assert counted(jobs.refresh_from_query(lake, "sevens", wider)) == (4, 4, 0)
    assert read(lake, "sevens")[0] == (8, "8", 16)
    publish_changes(lake)
    jobs.refresh_from_query(lake, "sevens")
    found = jobs.query_of(lake, "sevens")
    assert found is not None
    assert found.sql == wider
    for sql, kind in ((SEVENS, "schema-differs"), ('select label from "photos@v1"', "key-invalid")):
        with pytest.raises(InvalidInputError) as error:
            jobs.refresh_from_query(lake, "sevens", sql)
        assert error.value.kind == kind
    assert read(lake, "sevens")[0] == (8, "8", 16)


def test_only_made_datasets_are_refreshed(lake: Lake) -> None:
    """Another dataset has no query; that of one whose parameters were erased must be given."""
    with pytest.raises(StateError) as error:
        jobs.refresh_from_query(lake, "photos")
    assert error.value.kind == "query-missing"
    jobs.create_from_query(lake, "sevens", SEVENS)
    lake.storage.delete([entry.key for entry in lake.storage.list("_system/runs")])
    found = jobs.query_of(lake, "sevens")
    assert found is not None
    assert (found.sql, found.inputs) == (None, ())
    with pytest.raises(InvalidInputError) as other:
        jobs.refresh_from_query(lake, "sevens")
    assert other.value.kind == "query-missing"
    assert jobs.refresh_from_query(lake, "sevens", SEVENS).run is not None


def test_a_renamed_dataset_keeps_its_query(lake: Lake) -> None:
    """Its name and those of what it reads may change; a fork is a dataset of its own, which no query makes."""
    jobs.create_from_query(lake, "sevens", SEVENS)
    catalog.rename_dataset(lake, "sevens", "seven")
    catalog.rename_dataset(lake, "photos", "pictures")
    lake.table("pictures").append(photos((57, "7")))
    catalog.publish(lake, "pictures")
    assert counted(jobs.refresh_from_query(lake, "seven")) == (1, 0, 0)
    catalog.fork_dataset(lake, "seven", "mine")
    assert jobs.query_of(lake, "mine") is None


def test_who_may_not_read_the_inputs_sees_no_query(lake: Lake) -> None:
    """The rows are there for who may read the dataset; what they were made from, and the SQL, is not."""
    jobs.create_from_query(lake, "given.sevens", SEVENS)
    catalog.set_access(lake, True)
    catalog.add_principal(lake, "ben")
    catalog.grant(lake, "ben", "writer", "given.*")
    ben = Lake(lake.storage, "ben")
    assert [i for i, _ in read(ben, "given.sevens")] == [7, 17, 27, 37]
    found = jobs.query_of(ben, "given.sevens")
    assert found is not None
    assert (found.sql, found.inputs, found.refreshed_at) == (None, (), None)
    for sql, kind in ((None, "query-missing"), (SEVENS, "dataset-not-found")):
        with pytest.raises(LakeError) as error:
            jobs.refresh_from_query(ben, "given.sevens", sql)
        assert error.value.kind == kind
    catalog.grant(lake, "ben", "reader", "main.photos")
    found = jobs.query_of(ben, "given.sevens")
    assert found is not None
    assert found.sql == SEVENS
    publish_changes(lake)
    assert counted(jobs.refresh_from_query(ben, "given.sevens")) == (2, 2, 0)
    catalog.grant(lake, "ben", "reader", "given.*")
    with pytest.raises(AccessDeniedError):
        jobs.refresh_from_query(ben, "given.sevens")


# -- killed -------------------------------------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
import jobs, lakehouse
from importlib import import_module

root, owner, name, call, *given = sys.argv[1:]
module, _, cls = owner.partition(":")
holder = getattr(import_module(module), cls) if cls else import_module(module)
setattr(holder, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
getattr(jobs, call)(lakehouse.connect(root), *given)
"""


def killed(lake: Lake, at: str, call: str, *given: str) -> None:
    """Do one thing in another process, which is killed when it comes to a function: `module:Class name`."""
    command = [sys.executable, "-c", _KILLED, lake.root, *at.split(), call, *given]
    assert subprocess.run(command, check=False).returncode == -9


@pytest.mark.parametrize(
    "at", ["lakehouse.tables:Table append", "lakehouse.tables:Table _transact", "jobs.query register_dataset"]
)
def test_a_killed_creation_shows_nothing(lake: Lake, at: str) -> None:
    """Before the last step no dataset is there, what is read stays leased, and the name is free for the next try."""
    publish_changes(lake)
    killed(lake, at, "create_from_query", "sevens", SEVENS)
    assert {d.full_name for d in lake.state().all(Dataset)} == {"main.photos", "main.labels"}
    [lease] = lake.state().all(Lease)
    assert [(m.full_name, m.table_version) for m in lease.members] == [("main.photos", 3)]
    assert jobs.create_from_query(lake, "sevens", SEVENS).rows == 4


def test_a_creation_killed_after_its_last_step_is_whole(lake: Lake) -> None:
    """The dataset is there with all rows, and knows its query."""
    killed(lake, "catalog.runs:Run output", "create_from_query", "sevens", SEVENS)
    assert [i for i, _ in read(lake, "sevens")] == [7, 17, 27, 37]
    found = jobs.query_of(lake, "sevens")
    assert found is not None
    assert (found.sql, [i.resolved for i in found.inputs]) == (SEVENS, ["main.photos@v1"])
    assert counted(jobs.refresh_from_query(lake, "sevens")) == (0, 0, 0)


@pytest.mark.parametrize("at", ["lakehouse.replacing diff", "lakehouse.merging execute", "catalog.runs:Run output"])
def test_a_killed_refresh_is_whole_or_not_at_all(lake: Lake, at: str) -> None:
    """All rows are the old ones or all the new ones, the query is that of the rows, and the next refresh finishes it."""
    jobs.create_from_query(lake, "sevens", SEVENS)
    publish_changes(lake)
    new = SEVENS.replace("'7'", "'7' and true")
    killed(lake, at, "refresh_from_query", "sevens", new)
    landed = at.endswith("output")
    assert sorted(i for i, _ in read(lake, "sevens")) == ([3, 27, 37, 50] if landed else [7, 17, 27, 37])
    found = jobs.query_of(lake, "sevens")
    assert found is not None
    assert (found.sql, found.inputs[0].resolved) == ((new, "main.photos@v2") if landed else (SEVENS, "main.photos@v1"))
    done = jobs.refresh_from_query(lake, "sevens", new)
    assert counted(done) == ((0, 0, 0) if landed else (2, 2, 0))
    assert sorted(i for i, _ in read(lake, "sevens")) == [3, 27, 37, 50]
    assert catalog.verify(lake).ok


def test_a_failed_run_says_why_without_values(lake: Lake) -> None:
    """A query that fails on a value is recorded as failed, and leaves no lease."""
    with pytest.raises(LakeError):
        jobs.create_from_query(lake, "bad", "select cast(label || '-Ann' as int) as n from \"photos@v1\"")
    [run] = lake.sql("select * from lake.runs where job = 'query'").to_arrow_table().to_pylist()
    assert (run["status"], run["error"].partition(":")[0]) == ("failed", "sql-invalid")
    assert "Ann" not in run["error"]
    assert list(lake.state().all(Lease)) == []
