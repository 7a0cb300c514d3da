"""SQL in which references are table names, and the system views."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

import lakehouse
from lakehouse import Lake
from lakehouse.decisions import (
    Dataset,
    DatasetVersion,
    Decision,
    Member,
    Milestone,
    MilestoneVersion,
    Name,
    NamedSnapshot,
    Tag,
    Value,
)
from lakehouse.errors import InvalidInputError, NotFoundError, StorageError
from lakehouse.facts import SCHEMAS
from lakehouse.session import VIEWS, names_in

NOW = datetime(2026, 11, 20, 12, 0, 0, 5, UTC)
SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string()), ("photos", pa.int64())])


def rows(*ids: int) -> pa.Table:
    """Return one row per id; a column is called like a dataset."""
    return pa.table({"id": ids, "label": [f"l{i % 2}" for i in ids], "photos": [i * 10 for i in ids]}, schema=SCHEMA)


def put(lake: Lake, *values: Value) -> None:
    """Decide values as the catalog would."""
    lake.ledger.decide(lambda _: (None, [Decision.put("test", v) for v in values]))


def add_dataset(lake: Lake, name: str, *commits: pa.Table, **more: Any) -> Dataset:
    """Make a dataset with one commit per table of rows, each a published version with the data tag DRAFT."""
    namespace, short = name.split(".")
    table = Path(lake.root) / namespace / short
    for rows in commits:
        write_deltalake(table, rows, mode="append")
    found = Dataset(
        dataset_id=f"id-{short}",
        namespace=namespace,
        name=short,
        location=f"{namespace}/{short}",
        delta_id=DeltaTable(table).metadata().id,
        created_at=NOW,
        **more,
    )
    series = f"series-{short}"
    versions = [
        DatasetVersion(
            series=series,
            number=n + 1,
            dataset_id=found.dataset_id,
            full_name=name,
            table_version=n,
            data_tag="DRAFT",
            rows=1,
            files=1,
            bytes=100,
            created_at=NOW,
            committed_at=NOW,
        )
        for n in range(len(commits))
    ]
    named = Name(full_name=name, series=series, dataset_id=found.dataset_id, last_version=len(commits))
    put(lake, found, named, *versions)
    return found


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two datasets, one of them in a namespace, with versions, a tag, a milestone and snapshots."""
    lake = lakehouse.init(tmp_path_factory.mktemp("lake"), actor="ann")
    photos = add_dataset(lake, "vision.photos", rows(1, 2), rows(3), rows(4, 5), key_columns=("id",))
    labels = add_dataset(lake, "main.labels", rows(1, 3), kind="features", parent=photos.dataset_id)
    add_dataset(lake, "main.my-data", rows(7))
    members = (
        Member(dataset_id=photos.dataset_id, full_name="vision.photos", table_version=1, version=2, data_tag="DRAFT"),
        Member(dataset_id=labels.dataset_id, full_name="main.labels", table_version=0, version=1, data_tag="DRAFT"),
    )
    put(
        lake,
        Tag(series="series-photos", name="prod", number=2),
        Tag(series="series-photos", name="best", number=2),
        Milestone(full_name="main.spring", members=("vision.photos", "main.labels"), last_version=1, created_at=NOW),
        Milestone(full_name="main.autumn", members=("main.labels",), created_at=NOW),
        MilestoneVersion(
            full_name="main.spring", number=1, data_tag="DRAFT", members=members, published_at=NOW, published_by="ann"
        ),
        NamedSnapshot(name="run-20", members=members[:1], created_at=NOW, expires_at=NOW + timedelta(days=36500)),
        NamedSnapshot(name="gone", members=members, created_at=NOW, expires_at=NOW),
    )
    return lake


def answers(lake: Lake, sql: str, **more: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    found: list[tuple[Any, ...]] = lake.sql(sql, **more).fetchall()
    return found


# -- references as tables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select count(*) from vision.photos", [(5,)]),
        ('select count(*) from "vision.photos"', [(5,)]),
        ('select count(*) from "vision"."photos"', [(5,)]),
        ("select count(*) from VISION . Photos /* all */", [(5,)]),
        ('select count(*) from "vision.photos@v1"', [(2,)]),
        ('select count(*) from vision."photos@prod"', [(3,)]),
        ('select count(*) from "vision.photos@#1"', [(3,)]),
        ('select count(*) from "vision.photos@spring/v1"', [(3,)]),
        ('select count(*) from "vision.photos@snap:run-20"', [(3,)]),
        ('select count(*) from "Vision.PHOTOS@DRAFT"', [(5,)]),
        ("select count(*) from labels", [(2,)]),
        ("select count(*) from main.labels", [(2,)]),
        ('select id from "my-data"', [(7,)]),
        ("from labels select max(id)", [(3,)]),
        ('select count(*) from vision.photos join "vision.photos@v1" using (id)', [(2,)]),
        ('select count(*) from vision.photos p anti join "vision.photos@v1" o on p.id = o.id', [(3,)]),
        ("select p.photos from vision.photos as p where p.id = (select max(id) from labels)", [(30,)]),
        ("select photos.label from vision.photos where photos.id = 2", [("l0",)]),
        ("select vision.photos.label from vision.photos where id = 2", [("l0",)]),
        ("with labels as (select 42 as x) select x from labels", [(42,)]),
        ("select id as labels from labels order by labels", [(1,), (3,)]),
        ("select 'vision.photos' as \"vision.photos@v1\"", [("vision.photos",)]),
        ("select $$ labels@v9 $$ as x -- from nowhere@v1", [(" labels@v9 ",)]),
        ('(select id from labels) except (select id from "vision.photos@v1")', [(3,)]),
        ("select * from (pivot vision.photos on label using count(*) group by photos) limit 0", []),
        ("pivot labels on label using count(*) group by id order by id", [(1, 1), (3, 1)]),
        ("select column_name from (describe labels)", [("id",), ("label",), ("photos",)]),
        ("select count(*) from (summarize vision.photos)", [(3,)]),
        ("values (1)", [(1,)]),
        ("select count(*) from labels;", [(2,)]),
    ],
)
def test_any_reference_is_a_table_name(lake: Lake, sql: str, expected: list[tuple[Any, ...]]) -> None:
    """References work wherever DuckDB takes a table, and mean nothing where it does not."""
    assert answers(lake, sql) == expected


def test_describe_and_explain_show_a_dataset(lake: Lake) -> None:
    """The statements around a query work on references too."""
    assert answers(lake, 'describe "vision.photos@v1"')[0][:2] == ("id", "BIGINT")
    assert "Read Parquet" in answers(lake, "explain select id from vision.photos where id = 1")[0][1]


def test_copy_writes_a_query_or_a_dataset_to_a_file(lake: Lake, tmp_path: Path) -> None:
    """COPY ... TO runs at once."""
    lake.sql(f"copy (select id from vision.photos order by id) to '{tmp_path}/q.parquet'")
    assert pq.read_table(tmp_path / "q.parquet").column("id").to_pylist() == [1, 2, 3, 4, 5]
    lake.sql(f"copy labels to '{tmp_path}/t.csv'")
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == "id,label,photos"


def test_a_milestone_fixes_names_without_a_selector(lake: Lake) -> None:
    """In a milestone every plain name is that member's state; another dataset is an error, not its head."""
    assert answers(lake, "select count(*) from vision.photos", milestone="spring/v1") == [(3,)]
    assert answers(lake, 'select count(*) from "vision.photos@head"', milestone="spring") == [(5,)]
    assert answers(lake, "with c as (from labels) select count(*) from c", milestone="spring/v1") == [(2,)]
    with pytest.raises(NotFoundError, match="my-data is no member") as raised:
        lake.sql('select * from "my-data"', milestone="spring/v1")
    assert raised.value.kind == "not-a-member"


def test_a_relation_keeps_its_states(tmp_path: Path) -> None:
    """A relation reads the states that were there when it was made, also after commits, and outlives its session."""
    lake = lakehouse.init(tmp_path)
    add_dataset(lake, "main.t", rows(1))
    before = lake.sql("select count(*) from t")
    write_deltalake(tmp_path / "main" / "t", rows(2), mode="append")
    after = lake.sql("select count(*) from t")
    assert (before.fetchall(), after.fetchall(), before.fetchall()) == ([(1,)], [(2,)], [(1,)])
    assert before.to_arrow_table().num_rows == 1


def test_a_session_keeps_temporary_tables_and_sees_new_commits(tmp_path: Path) -> None:
    """Statements of one session share temporary tables and macros; names are resolved anew for each."""
    lake = lakehouse.init(tmp_path)
    add_dataset(lake, "main.t", rows(1))
    session = lake.session()
    session.query("create temp table kept as select * from t")
    session.query("create macro twice(x) as 2 * x")
    write_deltalake(tmp_path / "main" / "t", rows(2), mode="append")
    found = session.query("select twice(count(*)), (select count(*) from kept) from t").fetchall()
    assert found == [(4, 1)]
    session.query("insert into kept select * from t")
    assert session.query("select count(*) from kept").fetchall() == [(3,)]
    session.close()


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("select * from vision.photoz", "dataset-not-found", "'vision.photoz'.*'vision.photos'"),
        ("select * from label", "dataset-not-found", "'label'.*'labels'"),
        ('select * from "vision.photos@v9"', "version-not-found", "v9.*v1 to v3"),
        ('select * from "vision.photos@nope"', "tag-not-found", "'nope'"),
        ("select * from labels where id in (select id from other.things)", "dataset-not-found", "other.things"),
    ],
)
def test_a_table_that_does_not_exist_is_named(lake: Lake, sql: str, kind: str, words: str) -> None:
    """What is missing is named, with close matches, in the same words as elsewhere."""
    with pytest.raises(NotFoundError, match=words) as raised:
        lake.sql(sql)
    assert raised.value.kind == kind


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("selec 1", r"syntax error at or near \"selec\"[^^]*\^"),
        ("select nope from labels", 'column "nope" not found'),
        ("select nope(id) from labels", "nope does not exist"),
        ("select * from vision.photos@v1", 'double quotes: "vision.photos@v1"'),
        ('select "unterminated from labels', "unterminated"),
        ("", "no statement"),
        ("-- nothing", "no statement"),
        ("select 1; select 2", "several statements"),
        ("select ?", "parameter"),
        ("create table labels2 as select nope", "nope"),
    ],
)
def test_a_mistake_in_sql_is_told_in_words_of_duckdb(lake: Lake, sql: str, words: str) -> None:
    """Mistakes keep DuckDB's message with the place."""
    with pytest.raises(InvalidInputError, match=words) as raised:
        lake.sql(sql)
    assert raised.value.kind == "sql-invalid"


@pytest.mark.parametrize(
    "sql",
    [
        "insert into labels values (1, 'x', 2)",
        "update labels set id = 1",
        "delete from vision.photos",
        "truncate labels",
        "merge into labels using vision.photos p on labels.id = p.id when matched then delete",
        "drop table labels",
        "drop view labels",
        'drop view if exists "vision.photos"',
        "alter table labels add column x int",
        "copy labels from '/nowhere.csv'",
        "create table labels as select 1",
        "attach ':memory:' as other",
        "install httpfs",
        "load httpfs",
        "export database '/tmp/nowhere'",
    ],
)
def test_what_would_change_a_dataset_is_refused(lake: Lake, sql: str) -> None:
    """SQL reads datasets; a statement that would write one says what to call instead, and changes nothing."""
    with pytest.raises(InvalidInputError) as raised:
        lake.sql(sql)
    assert raised.value.kind == "sql-unsupported"
    assert answers(lake, "select count(*) from labels") == [(2,)]


def test_a_file_that_can_not_be_written_is_a_storage_error(lake: Lake) -> None:
    """Errors of the disk are not mistakes in the SQL."""
    with pytest.raises(StorageError, match="/nowhere/at/all"):
        lake.sql("copy labels to '/nowhere/at/all.csv'")


def test_names_are_found_however_they_are_quoted() -> None:
    """Single names and pairs are found once each; texts, comments and longer chains are not names."""
    sql = """select (select a from s).f, x.y.z, "n""q" . "d@v1", t.*, 1e5, -- c1.c2
        e'it\\'s e1', 'it''s e2', $$ e3 $$, $tag$ e4 $$ $tag$, größe /* c3 */ FROM s"""
    found = {".".join(n).casefold() for n in names_in(sql)}
    assert found == {"select", "a", "from", "s", "f", 'n"q.d@v1', "t", "größe".casefold()}


# -- system views -----------------------------------------------------------------------------------------------------

COLUMNS = {
    "datasets": "dataset namespace name dataset_id kind key_columns parent guarantee location owner license description "
    "latest_version created_at deleted_at",
    "versions": "dataset version table_version data_tag tags rows files bytes message created_at created_by run dataset_id "
    "expired_at",
    "milestones": "milestone version status data_tag attribute color published_at published_by message members",
    "milestone_datasets": "milestone milestone_version dataset version table_version data_tag dataset_id ready",
    "pins": "dataset_id dataset table_version pinned_by kind expires_at",
    "holds": "dataset dataset_id reason created_at created_by",
    "readable": "dataset dataset_id table_version pinned_by status verified_at deep files bytes problems",
    "runs": "run job status started_at finished_at actor code_version parameters inputs outputs counts error",
    "lineage": "output_dataset output_dataset_id output_table_version run job input_dataset input_dataset_id "
    "input_table_version source",
    "rejects": "run dataset dataset_id source item line column_name code severity reason at",
    "changes": "dataset old_version new_version rows_added rows_removed rows_changed columns key has_keys "
    "old_table_version new_table_version at dataset_id",
}
TYPES = {
    **dict.fromkeys(("created_at", "deleted_at", "published_at", "expires_at"), "TIMESTAMP WITH TIME ZONE"),
    **dict.fromkeys(("started_at", "finished_at", "at", "expired_at"), "TIMESTAMP WITH TIME ZONE"),
    **dict.fromkeys(("version", "table_version", "rows", "files", "bytes", "milestone_version", "line"), "BIGINT"),
    **dict.fromkeys(("latest_version", "members", "output_table_version", "input_table_version"), "BIGINT"),
    **dict.fromkeys(("parameters", "inputs", "outputs", "counts"), "JSON"),
    **dict.fromkeys(("key_columns", "tags"), "VARCHAR[]"),
    "ready": "BOOLEAN",
    "deep": "BOOLEAN",
    "readable.pinned_by": "VARCHAR[]",
    "problems": "JSON",
    "verified_at": "TIMESTAMP WITH TIME ZONE",
    "has_keys": "BOOLEAN",
    **dict.fromkeys(("columns", "key"), "JSON"),
    **dict.fromkeys(("old_version", "new_version", "old_table_version", "new_table_version"), "BIGINT"),
    **dict.fromkeys(("rows_added", "rows_removed", "rows_changed"), "BIGINT"),
}


def records(lake: Lake, sql: str) -> list[dict[str, Any]]:
    """Return the rows of a query as dicts."""
    found: list[dict[str, Any]] = lake.sql(sql).to_arrow_table().to_pylist()
    return found


def test_every_view_is_known_here() -> None:
    """Each file of sql/ is a view that these tests know, and nothing else lies there."""
    assert {f.name for f in VIEWS.iterdir() if f.suffix != ".pyc"} == {f"{name}.sql" for name in COLUMNS}


@pytest.mark.parametrize("view", COLUMNS)
def test_a_view_has_the_columns_that_it_promises(lake: Lake, tmp_path: Path, view: str) -> None:
    """Columns and types are as documented, in a lakehouse with and without entries; each column is documented."""
    expected = [(c, TYPES.get(f"{view}.{c}", TYPES.get(c, "VARCHAR"))) for c in COLUMNS[view].split()]
    for some in (lake, lakehouse.init(tmp_path / "empty")):
        found = some.sql(f"select * from lake.{view}")
        assert list(zip(found.columns, map(str, found.types), strict=True)) == expected
    head = (VIEWS / f"{view}.sql").read_text().split("\nselect")[0].split("\nwith")[0]
    assert head.startswith(f"-- {view}: ")
    assert all(column in head for column, _ in expected)


def test_the_view_of_datasets(lake: Lake) -> None:
    """One row per dataset, with its parent's name and its newest version."""
    sql = "select dataset, kind, key_columns, parent, latest_version, created_at from lake.datasets"
    assert records(lake, sql)[0] == {
        "dataset": "main.labels",
        "kind": "features",
        "key_columns": [],
        "parent": "vision.photos",
        "latest_version": 1,
        "created_at": NOW,
    }
    assert [r["key_columns"] for r in records(lake, "from datasets")][2] == ["id"]


def test_the_view_of_versions(lake: Lake) -> None:
    """One row per published version, with the tags that point at it."""
    found = records(lake, "select version, table_version, tags from versions where dataset = 'vision.photos'")
    assert found == [
        {"version": 1, "table_version": 0, "tags": []},
        {"version": 2, "table_version": 1, "tags": ["best", "prod"]},
        {"version": 3, "table_version": 2, "tags": []},
    ]


def test_the_views_of_milestones(lake: Lake) -> None:
    """Published versions show their tag's meaning and members; a milestone without a version is pending."""
    spring, autumn = sorted(records(lake, "from milestones"), key=lambda r: r["version"] or 0, reverse=True)
    assert (spring["status"], spring["attribute"], spring["color"]) == ("Published", "IS_DRAFT", "Yellow")
    assert (spring["members"], spring["published_at"]) == (2, NOW)
    assert (autumn["milestone"], autumn["version"], autumn["status"], autumn["members"]) == (
        "main.autumn",
        None,
        "Pending",
        1,
    )
    sql = "select dataset, version, table_version, ready from milestone_datasets where milestone = 'main.spring'"
    assert answers(lake, sql) == [("vision.photos", 2, 1, True), ("main.labels", 1, 0, True)]


def test_the_view_of_pins(lake: Lake) -> None:
    """Versions, milestones and living snapshots pin; an expired snapshot does not."""
    found = answers(
        lake, "select table_version, pinned_by, kind, expires_at is null from pins where dataset_id = 'id-photos'"
    )
    assert found == [
        (0, "vision.photos@v1", "version", True),
        (1, "milestone main.spring/v1", "milestone", True),
        (1, "snap:run-20", "snapshot", False),
        (1, "vision.photos@v2", "version", True),
        (2, "vision.photos@v3", "version", True),
    ]


def test_the_views_of_runs_and_lineage(tmp_path: Path) -> None:
    """The newest event of a run counts; each output is paired with each input, or with the source outside."""
    lake = lakehouse.init(tmp_path)
    state = {"dataset": "main.a", "dataset_id": "id-a", "table_version": 3}
    other = {"dataset": "main.b", "dataset_id": "id-b", "table_version": 0}
    common = {"job": "j", "actor": "ann", "inputs": json.dumps([state]), "outputs": "[]"}
    events = [
        common | {"run": "r1", "event": "started", "at": NOW, "code_version": "1", "parameters": '{"n": 1}'},
        common | {"run": "r1", "event": "finished", "at": NOW + timedelta(1), "outputs": json.dumps([other, state])},
        common
        | {"run": "r2", "event": "started", "at": NOW + timedelta(2), "inputs": "[]", "parameters": '{"source": "x/"}'},
        common
        | {
            "run": "r2",
            "event": "failed",
            "at": NOW + timedelta(3),
            "inputs": "[]",
            "outputs": json.dumps([other]),
            "error": "e",
        },
        common | {"run": "r3", "event": "started", "at": NOW + timedelta(4)},
    ]
    lake.facts.append("runs", pa.Table.from_pylist(events, schema=SCHEMAS["runs"]), ("t", 0))
    sql = "select run, status, started_at = '2026-11-20 12:00:00.000005Z', finished_at is null, code_version, error from runs"
    assert answers(lake, sql) == [
        ("r3", "running", False, True, None, None),
        ("r2", "failed", False, False, None, "e"),
        ("r1", "succeeded", True, False, "1", None),
    ]
    assert answers(lake, "select parameters ->> 'n' from runs where run = 'r1'") == [("1",)]
    sql = "select run, output_dataset, output_table_version, input_dataset, input_table_version, source from lineage"
    assert answers(lake, sql) == [
        ("r2", "main.b", 0, None, None, "x/"),
        ("r1", "main.a", 3, "main.a", 3, None),
        ("r1", "main.b", 0, "main.a", 3, None),
    ]


def test_the_view_of_rejects(tmp_path: Path) -> None:
    """Rejects are listed as they were recorded."""
    lake = lakehouse.init(tmp_path)
    row = {
        "run": "r",
        "dataset": "main.a",
        "dataset_id": "id-a",
        "source": "s",
        "at": NOW,
        "code": "c",
        "severity": "reject",
        "line": 3,
    }
    lake.facts.append("rejects", pa.Table.from_pylist([row], schema=SCHEMAS["rejects"]), ("t", 0))
    found = records(lake, "from lake.rejects")
    assert found == [row | {"item": None, "column_name": None, "reason": None}]


def test_a_dataset_hides_the_short_name_of_a_view(tmp_path: Path) -> None:
    """A dataset called like a system view is that dataset; the view keeps its full name."""
    lake = lakehouse.init(tmp_path)
    add_dataset(lake, "main.versions", rows(1, 2))
    assert answers(lake, "select max(id) from versions") == [(2,)]
    assert answers(lake, "select dataset from lake.versions") == [("main.versions",)]


def test_a_dropped_dataset_keeps_its_row_and_says_so_when_it_is_read(tmp_path: Path) -> None:
    """Its name is an error that tells how to bring it back; its published version is still a table."""
    lake = lakehouse.init(tmp_path)
    found = add_dataset(lake, "main.old", rows(1))
    name = Name(full_name="main.old", series="series-old", dataset_id=None, last_version=1)
    put(lake, replace(found, deleted_at=NOW), name)
    assert records(lake, "select dataset, deleted_at from datasets") == [{"dataset": "main.old", "deleted_at": NOW}]
    with pytest.raises(NotFoundError, match="undrop") as raised:
        lake.sql("select * from old")
    assert raised.value.kind == "dataset-deleted"
    assert answers(lake, 'select id from "old@v1"') == [(1,)]


# -- the process ------------------------------------------------------------------------------------------------------


def test_the_interpreter_ends_quietly_with_open_relations(lake: Lake) -> None:
    """Relations and sessions that are alive at exit leave no crash and nothing on stderr, after an error either."""
    script = """
import sys, lakehouse
lake = lakehouse.connect(sys.argv[1])
relation = lake.sql("from lake.datasets join vision.photos on true")
session = lake.session()
kept = session.query("select count(*) from versions")
rows, batches = relation.limit(2).to_arrow_table(), lake.sql("from labels").to_arrow_reader(1)
try:
    lake.sql("select * from nope")
except lakehouse.NotFoundError as error:
    failed = error
"""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", script, lake.root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
