"""The system views: their columns, and what they say."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Event

import pyarrow as pa
import pytest

import catalog
import lakehouse
from lakehouse import Lake, connect
from lakehouse.facts import SCHEMAS
from lakehouse.session import VIEWS
from tests.support.lakes import make_lake, make_table
from tests.support.registered import NOW, answers, records, registered_lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two datasets, one of them in a namespace, with versions, a tag, a milestone and snapshots."""
    return registered_lake(tmp_path_factory.mktemp("lake"))


COLUMNS = {
    "datasets": "dataset namespace name dataset_id kind key_columns parent guarantee location owner license description "
    "aliases latest_version created_at deleted_at",
    "versions": "dataset version table_version data_tag tags rows files bytes message created_at created_by run dataset_id "
    "notice withdrawn noticed_at noticed_by expired_at",
    "milestones": "milestone version status data_tag attribute color published_at published_by message members waiting "
    "since",
    "milestone": "Milestone_ID Milestone_Name Version_Number Attribute Color Publish_Date Status IS_DRAFT IS_REVIEWED "
    "IS_FINAL",
    "milestone_dataset": "Milestone_ID Dataset_Name Dataset_Version Data_Tag Ready_Flag",
    "data_tag_map": "Data_Tag Milestone_Attribute Color",
    "milestone_datasets": "milestone milestone_version dataset version table_version data_tag dataset_id ready",
    "pins": "dataset_id dataset table_version pinned_by kind expires_at",
    "principals": "name kind description created_at created_by",
    "grants": "principal role scope created_at created_by",
    "tokens": "token_id principal description created_at created_by expires_at revoked_at",
    "holds": "dataset dataset_id reason created_at created_by",
    "retention": "scope namespace keep_last keep_for keep_tags created_at created_by",
    "metadata": "dataset name value created_at created_by dataset_id",
    "schemas": "dataset schema_number position column_name type nullable in_key description unit semantic newest "
    "compatibility misfits message created_at created_by dataset_id",
    "readable": "dataset dataset_id table_version pinned_by status verified_at deep files bytes problems",
    "runs": "run job status started_at finished_at actor code_version parameters inputs outputs counts error",
    "lineage": "output_dataset output_dataset_id output_table_version run job input_dataset input_dataset_id "
    "input_table_version source",
    "rejects": "run dataset dataset_id source item line column_name code severity reason value rule at",
    "changes": "dataset old_version new_version rows_added rows_removed rows_changed columns key has_keys "
    "old_table_version new_table_version at dataset_id",
    "checks": "dataset name kind columns parameters severity in_file created_at created_by dataset_id",
    "check_results": "dataset table_version version name kind severity ok failures rows finding method samples ok_until "
    "started_at finished_at inputs dataset_id",
    "column_stats": "dataset table_version version column_name type rows nulls distinct_values min max mean std quantiles "
    "top histogram length_min length_max length_mean at dataset_id",
    "decisions": "at actor action resource entity before after run message commit_id seq position",
    "audit": "at actor kind action resource before after run message commit_id seq",
    "reads": "at actor consumer dataset version table_version reference opens bytes rows host process dataset_id",
    "fetches": "dataset version table_version consumer opens actors first_at last_at bytes dataset_id",
}
TYPES = {
    **dict.fromkeys(("created_at", "deleted_at", "published_at", "expires_at"), "TIMESTAMP WITH TIME ZONE"),
    **dict.fromkeys(("started_at", "finished_at", "at", "expired_at", "noticed_at"), "TIMESTAMP WITH TIME ZONE"),
    **dict.fromkeys(("version", "table_version", "rows", "files", "bytes", "milestone_version", "line"), "BIGINT"),
    **dict.fromkeys(
        ("keep_last", "latest_version", "members", "output_table_version", "input_table_version"), "BIGINT"
    ),
    **dict.fromkeys(("parameters", "inputs", "outputs", "counts"), "JSON"),
    **dict.fromkeys(("key_columns", "tags", "waiting", "aliases", "keep_tags"), "VARCHAR[]"),
    **dict.fromkeys(("since", "Publish_Date"), "TIMESTAMP WITH TIME ZONE"),
    **dict.fromkeys(("Version_Number", "Dataset_Version"), "BIGINT"),
    **dict.fromkeys(("nullable", "in_key", "newest", "ready"), "BOOLEAN"),
    **dict.fromkeys(("schema_number", "position"), "BIGINT"),
    "deep": "BOOLEAN",
    "readable.pinned_by": "VARCHAR[]",
    "problems": "JSON",
    **dict.fromkeys(("verified_at", "revoked_at"), "TIMESTAMP WITH TIME ZONE"),
    "has_keys": "BOOLEAN",
    **dict.fromkeys(("columns", "key"), "JSON"),
    **dict.fromkeys(("old_version", "new_version", "old_table_version", "new_table_version"), "BIGINT"),
    **dict.fromkeys(("rows_added", "rows_removed", "rows_changed"), "BIGINT"),
    "checks.columns": "VARCHAR[]",
    **dict.fromkeys(("in_file", "ok", "withdrawn"), "BOOLEAN"),
    "ok_until": "TIMESTAMP WITH TIME ZONE",
    **dict.fromkeys(("failures", "nulls", "distinct_values", "length_min", "length_max"), "BIGINT"),
    **dict.fromkeys(("samples", "min", "max", "quantiles", "top", "histogram"), "JSON"),
    **dict.fromkeys(("mean", "std", "length_mean"), "DOUBLE"),
    **dict.fromkeys(("before", "after"), "JSON"),
    **dict.fromkeys(("seq", "opens", "process"), "BIGINT"),
    **dict.fromkeys(("first_at", "last_at"), "TIMESTAMP WITH TIME ZONE"),
    "actors": "VARCHAR[]",
}


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


def test_the_view_of_retention(tmp_path: Path) -> None:
    """Policies of datasets under the names that these have now, and of namespaces; what was removed is gone."""
    lake = make_lake(str(tmp_path / "lake"))
    make_table(lake, "vision.photos", pa.schema([("id", pa.int64())]))
    catalog.set_retention(lake, "vision.photos", keep_last=3, keep_tags=["FINAL"])
    catalog.set_retention(lake, "Vision.*", keep_for="90d")
    catalog.rename_dataset(lake, "vision.photos", "vision.images")
    sql = "select scope, keep_last, keep_for, keep_tags, created_by from lake.retention"
    own, of_all = ("vision.images", 3, None, ["FINAL"], "tester"), ("vision.*", None, "90d", [], "tester")
    assert answers(lake, sql) == [of_all, own]
    assert [scope for scope, *_ in answers(lake, sql)] == [r.scope for r in catalog.list_retention(lake)]
    catalog.remove_retention(lake, "vision.images")
    assert answers(lake, sql) == [of_all]


def test_a_query_reads_one_state(tmp_path: Path) -> None:
    """Whatever others decide meanwhile, rows of the decisions are never made of two states."""
    lake = make_lake(str(tmp_path / "lake"))
    make_table(lake, "t", pa.schema([("id", pa.int64())]))
    over = Event()

    def decide() -> None:
        other = connect(lake.root)
        while not over.is_set():
            catalog.set_metadata(other, "t", {"a": "1", "b": "2"})
            catalog.remove_metadata(other, "t", ["a", "b"])

    with ThreadPoolExecutor(1) as pool:
        deciding = pool.submit(decide)
        try:
            for _ in range(100):
                found = answers(lake, "select name, value from metadata order by name")
                assert found in ([], [("a", "1"), ("b", "2")])
        finally:
            over.set()
        deciding.result()


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
    assert found == [row | dict.fromkeys(("item", "column_name", "reason", "value", "rule"))]
