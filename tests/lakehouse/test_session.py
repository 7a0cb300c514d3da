"""SQL in which references are table names."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

import lakehouse
from lakehouse import Lake
from lakehouse.decisions import (
    Name,
)
from lakehouse.errors import InvalidInputError, NotFoundError, StorageError
from lakehouse.session import names_in
from tests.support.registered import NOW, add_dataset, answers, put, records, registered_lake, rows


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two datasets, one of them in a namespace, with versions, a tag, a milestone and snapshots."""
    return registered_lake(tmp_path_factory.mktemp("lake"))


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


def test_a_script_of_one_line_shows_no_progress(tmp_path: Path) -> None:
    """For `python -c`, which DuckDB takes for a person at a prompt, long queries print no bars of progress."""
    lakehouse.init(tmp_path / "lake")
    script = (
        "import lakehouse, sys; lake = lakehouse.connect(sys.argv[1]); "
        """print(lake.sql("select current_setting('enable_progress_bar')").fetchall())"""
    )
    ran = subprocess.run([sys.executable, "-c", script, tmp_path / "lake"], capture_output=True, check=True, text=True)
    assert (ran.stdout, ran.stderr) == ("[(False,)]\n", "")
