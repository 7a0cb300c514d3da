"""Pinned queries: which references and which SQL they take, what they make of them, and their keys."""

from __future__ import annotations

import pyarrow as pa
import pytest

import catalog
from lakehouse.errors import InvalidInputError, LakeError
from lakehouse.lake import Lake
from lakehouse.pinned import PinnedQuery, pin_query
from tests.support.lakes import make_lake, make_table, rows

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("size", pa.float64())])


def make(uri: str) -> Lake:
    """A lake with `t`, of two published versions and a newer head, and `b.t`, of none."""
    lake = make_lake(uri)
    table = make_table(lake, "t", SCHEMA, key=["id"])
    table.append(rows((3, "c", 0.5), (1, "a", None), (2, "b", 2.0)))
    catalog.publish(lake, "t", data_tag="FINAL")
    table.append(rows((4, "a", 4.0)))
    catalog.publish(lake, "t")
    table.append(rows((5, "five", 5.0)))
    make_table(lake, "b.t", SCHEMA).append(rows((9, "nine", 9.0)))
    return lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Such a lake in a folder, only read."""
    return make(str(tmp_path_factory.mktemp("pinned") / "lake"))


def ids(query: PinnedQuery) -> list[int]:
    """Return the ids that a query gives, in its order."""
    found: list[int] = query.rows().read_all().column("id").to_pylist()
    return found


def test_what_references_mean_is_decided_once(root_uri: str) -> None:
    """Each kind of pinned reference is read, and goes on meaning the same when more is published."""
    lake = make(root_uri)
    lake.snapshot("s", ["b.t"])
    catalog.define_milestone(lake, "spring", ["t"])
    catalog.publish_milestone(lake, "spring")
    given = {
        '"t@v1"': [3, 1, 2],
        '"t@FINAL"': [3, 1, 2],
        '"main.t@latest"': [3, 1, 2, 4],
        'main."t@latest"': [3, 1, 2, 4],
        '"t@#1"': [3, 1, 2],
        f'"t@{lake.read("t@v1").created_at.isoformat()}"': [3, 1, 2],
        '"t@spring/latest"': [3, 1, 2, 4],
        'b."t@snap:s"': [9],
    }
    pinned = {text: pin_query(lake, f"from {text}") for text in given}
    catalog.publish(lake, "t", data_tag="FINAL")
    assert {text: ids(query) for text, query in pinned.items()} == given
    assert [s.reference for s in pinned['main."t@latest"'].states] == ["main.t@latest"]
    assert ids(pin_query(lake, 'from "t@latest"')) == [3, 1, 2, 4, 5]


@pytest.mark.parametrize(
    ("sql", "instead"),
    [
        ("from t", '"main.t@v2"'),
        ("from main.t", '"main.t@v2"'),
        ('from "t@head"', '"main.t@v2"'),
        ('from "t@#0"', '"main.t@v2"'),
        ('from "t@v1" join T using (id)', '"main.t@v2"'),
        ("from b.t", "lakehouse publish b.t"),
        ('from "b.t@#1"', "lakehouse publish b.t"),
        ("select 1 as id", '"photos@v3"'),
    ],
)
def test_what_is_not_pinned_is_refused(lake: Lake, sql: str, instead: str) -> None:
    """A head, a state that was never published and a query of no dataset: the error names what to write instead."""
    with pytest.raises(InvalidInputError) as error:
        pin_query(lake, sql)
    assert error.value.kind == "query-unpinned"
    assert instead in error.value.message


def test_names_that_mean_something_else_are_no_references(lake: Lake) -> None:
    """A common table expression and a column may be called like a dataset."""
    query = pin_query(lake, 'with t as (select id as t from "t@v1") select t as id from t')
    assert (ids(query), list(query.inputs)) == ([3, 1, 2], ["main.t@v1"])


@pytest.mark.parametrize(
    "part",
    [
        "where size > random()",
        "where name = uuid()::varchar",
        "where now() > timestamptz '2026-01-01'",
        "where current_date > date '2026-01-01'",
        "where localtimestamp > timestamp '2026-01-01'",
        "where ago(interval 1 day) > timestamptz '2026-01-01'",
        "where age(timestamp '2026-01-01') > interval 1 day",
        "where len(list_transform([1], lambda x: x + random())) = 1",
        "using sample 10 percent",
        "tablesample reservoir(2 rows)",
    ],
)
def test_what_differs_each_time_is_refused(lake: Lake, part: str) -> None:
    """Chance and the time, wherever they stand, also behind macros; a sample without a seed."""
    with pytest.raises(InvalidInputError) as error:
        pin_query(lake, f'from "t@v1" {part}')
    assert error.value.kind == "query-unstable"


def test_a_sample_with_a_seed_is_the_same_each_time(lake: Lake) -> None:
    """Its rows are those of the seed; what only sounds like chance or time is fine."""
    query = pin_query(lake, 'from "t@v2" using sample reservoir(2 rows) repeatable (7)')
    assert len(ids(query)) == 2
    assert all(ids(query) == ids(query) for _ in range(3))
    harmless = "select id, age(timestamp '2026-02-01', timestamp '2026-01-01') > interval 1 day as old"
    assert ids(
        pin_query(lake, f'{harmless}, json_group_object(name, size) as j from "t@v1" group by id order by 1')
    ) == [
        1,
        2,
        3,
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "from 'rows.parquet'",
        "from read_csv('rows.csv')",
        "from glob('*')",
        "from \"t@v1\", read_text('/etc/hostname')",
        "from lake.runs",
        "from runs",
        "from datasets",
        "from information_schema.tables",
        "from duckdb_settings()",
        'create table x as from "t@v1"',
        "insert into t values (1)",
        "copy (from \"t@v1\") to 'x.csv'",
        'pivot "t@v1" on name using sum(size)',
        "set threads = 1",
    ],
)
def test_only_queries_of_datasets_are_taken(lake: Lake, sql: str) -> None:
    """Files, what the lakehouse and DuckDB keep about themselves, and statements that are no SELECT are refused."""
    with pytest.raises(InvalidInputError) as error:
        pin_query(lake, sql)
    assert error.value.kind == "sql-unsupported"


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("selec", "sql-invalid"),
        ("from t@v1", "sql-invalid"),
        ('from "t@v1"; from "t@v1"', "sql-invalid"),
        ('from "t@v1" where id = $1', "sql-invalid"),
        ('select nothing from "t@v1"', "sql-invalid"),
        ("from nothing", "dataset-not-found"),
        ('from "nothing@v1"', "dataset-not-found"),
        ('from "t@v9"', "version-not-found"),
        ('from "t@snap:none"', "snapshot-not-found"),
        ('select id, id from "t@v1"', "duplicate-column"),
        ('from "t@v1" a join "t@v2" b on a.id = b.id', "duplicate-column"),
        ('select id, name as ID from "t@v1"', "schema-case-conflict"),
        ("select time '10:00' as at_ from \"t@v1\"", "unsupported-type"),
    ],
)
def test_mistakes_are_told(lake: Lake, sql: str, kind: str) -> None:
    """Wrong SQL, tables that do not exist and columns that no table can have are refused before anything is run."""
    with pytest.raises(LakeError) as error:
        pin_query(lake, sql)
    assert error.value.kind == kind


@pytest.mark.parametrize("given", ["name", "'a'"])
def test_a_value_that_fails_is_not_told(lake: Lake, given: str) -> None:
    """What fails on a row, or on a value in the SQL, says so without the value."""
    query = pin_query(lake, f'select cast({given} as integer) as n from "t@v2"')
    with pytest.raises(InvalidInputError) as error:
        query.rows().read_all()
    assert error.value.kind == "sql-invalid"
    assert "'a'" not in error.value.message
    assert "'c'" not in error.value.message


def test_columns_are_those_of_an_own_table(lake: Lake) -> None:
    """DuckDB's types become plain ones, also without any row; sums of integers are decimals."""
    sql = "select sum(id) as s, count(*)::ubigint as n, name::enum('a', 'b', 'c') as e, null as x, [size] as l"
    query = pin_query(lake, f'{sql} from "t@v1" where false group by name, size')
    assert query.schema == pa.schema(
        [
            ("s", pa.decimal128(38, 0)),
            ("n", pa.int64()),
            ("e", pa.string()),
            ("x", pa.string()),
            ("l", pa.list_(pa.field("element", pa.float64()))),
        ]
    )
    assert query.rows().read_all() == query.schema.empty_table()


def test_rows_come_sorted_by_their_key(lake: Lake) -> None:
    """With a key rows are sorted by it; without one they stay in the query's order."""
    query = pin_query(lake, 'from "t@v2" order by size desc nulls last')
    assert ids(query) == [4, 2, 3, 1]
    assert query.rows(["id"]).read_all().column("id").to_pylist() == [1, 2, 3, 4]
    assert query.rows(["name", "id"]).read_all().column("id").to_pylist() == [1, 4, 2, 3]


@pytest.mark.parametrize("count", [5, 20_000])
@pytest.mark.parametrize(
    ("key", "kind"),
    [(["n"], None), (["m", "k"], None), (["k"], "key-not-unique"), (["m"], "key-not-unique"), (["z"], "key-null")],
)
def test_a_key_identifies_the_rows(lake: Lake, count: int, key: list[str], kind: str | None) -> None:
    """Every key occurs once and none is null, wherever batches end."""
    sql = f"""select r as n, r // 2 as m, r % 2 as k, if(r = {count - 1}, null, r) as z
              from (select * from "t@v1" limit 1), range({count}) as s(r)"""
    found = pin_query(lake, sql).rows(key)
    if kind is None:
        assert found.read_all().column("n").to_pylist() == list(range(count))
        return
    with pytest.raises(InvalidInputError) as error:
        found.read_all()
    assert error.value.kind == kind
