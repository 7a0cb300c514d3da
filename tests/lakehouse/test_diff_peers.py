"""Diffs against other means: random edits against lists of rows in Python, real data against a full join by Polars."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.diff import Diff, RowCounts, diff
from tests.support.delta_lab import Lab, rows

NAN = float("nan")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Tables in a fresh folder."""
    return Lab(str(tmp_path / "lake"))


# -- against a plain model ------------------------------------------------------------------------------------------

SCHEMA = pa.schema(
    [("id", pa.int64()), ("x", pa.float64()), ("s", pa.string()), ("l", pa.list_(pa.field("element", pa.int32())))]
)
Row = tuple[Any, ...]
values = st.tuples(
    st.sampled_from([None, 0.0, -0.0, 1.5, NAN]),
    st.sampled_from([None, "", "a"]),
    st.sampled_from([None, [], [1], [None, 1]]),
)
some_rows = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 9), st.integers(0, 9)), values), max_size=5)
keyed_rows = st.dictionaries(st.integers(0, 9), values, max_size=5).map(lambda d: list(d.items()))
edits = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.one_of(keyed_rows, some_rows)),
        st.tuples(st.just("delete"), st.integers(0, 9)),
        st.tuples(st.just("merge"), keyed_rows),
        st.tuples(st.just("compact"), st.none()),
    ),
    max_size=4,
)


def as_table(data: Sequence[Row]) -> pa.Table:
    """Rows of the model as Arrow."""
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in data], schema=SCHEMA)


def plain(row: Row) -> Row:
    """A row as Python compares it: NaN equals itself, lists are hashable."""
    return tuple("NaN" if v != v else tuple(v) if isinstance(v, list) else v for v in row)


def apply(lab: Lab, state: list[Row], kind: str, given_: Any) -> list[Row]:
    """Edit the table and return what a plain list of its rows becomes."""
    if kind == "append":
        added = [(k, *v) for k, v in given_]
        lab.write(as_table(added), mode="append")
        return state + added
    if kind == "delete":
        lab.table().delete(f"id = {given_}")
        return [row for row in state if row[0] != given_]
    if kind == "merge":
        source = {k: (k, *v) for k, v in given_}
        merger = lab.table().merge(as_table(list(source.values())), "t.id = s.id", source_alias="s", target_alias="t")
        merger.when_matched_update_all().when_not_matched_insert_all().execute()
        known = {row[0] for row in state}
        return [source.get(row[0], row) for row in state] + [row for k, row in source.items() if k not in known]
    lab.table().optimize.compact()
    return state


@given(first=st.lists(keyed_rows, min_size=1, max_size=3), later=edits, odd=some_rows)
def test_random_edits_agree_with_a_plain_model(first: list[Any], later: list[Any], odd: list[Any]) -> None:
    """Whatever is done to a table, counts and rows of the diff are those of two lists compared in Python."""
    with tempfile.TemporaryDirectory() as folder:
        lab, old = Lab(folder), []
        for data in [*first, odd]:
            old = apply(lab, old, "append", data)
        before, new = lab.at(), old
        for kind, argument in later:
            new = apply(lab, new, kind, argument)
        check_against_model(diff(before, lab.at()), [plain(r) for r in old], [plain(r) for r in new])


def check_against_model(found: Diff, old: list[Row], new: list[Row]) -> None:
    """Compare all that a diff says with two lists of rows."""
    gone, come = Counter(old) - Counter(new), Counter(new) - Counter(old)
    keys_old, keys_new = Counter(r[0] for r in old), Counter(r[0] for r in new)
    assert bool(found) == bool(gone or come)
    if found.key is None:
        assert found.fallback is not None
        assert keys_old[None] or keys_new[None] or max([*keys_old.values(), *keys_new.values()]) > 1
        changed: set[Any] = set()
    else:
        assert found.key == ("id",)
        assert found.fallback is None
        changed = {r[0] for r in gone} & {r[0] for r in come}
        for row in [*gone, *come]:
            assert row[0] is not None
            assert keys_old[row[0]] <= 1
            assert keys_new[row[0]] <= 1
    streamed = Counter(plain(tuple(r.values())) for r in rows(found.added()))
    assert streamed == Counter({r: n for r, n in come.items() if r[0] not in changed})
    streamed = Counter(plain(tuple(r.values())) for r in rows(found.removed()))
    assert streamed == Counter({r: n for r, n in gone.items() if r[0] not in changed})
    assert found.counts == RowCounts(come.total() - len(changed), gone.total() - len(changed), len(changed))
    was, now = {r[0]: r for r in gone}, {r[0]: r for r in come}
    per_column: Counter[str] = Counter()
    pairs = rows(found.changed())
    assert [r["id"] for r in pairs] == sorted(changed)
    for r in pairs:
        assert plain((r["id"], r["old.x"], r["old.s"], r["old.l"])) == was[r["id"]]
        assert plain((r["id"], r["new.x"], r["new.s"], r["new.l"])) == now[r["id"]]
        differ = [c for c, a, b in zip(SCHEMA.names, was[r["id"]], now[r["id"]], strict=True) if a != b]
        assert r["changed_columns"] == differ
        per_column.update(differ)
    assert found.columns == dict(per_column)


# -- real data, against a full join by Polars -----------------------------------------------------------------------


def peer(old: pl.DataFrame, new: pl.DataFrame, key: list[str]) -> tuple[RowCounts, dict[str, int]]:
    """Counts by a full join; a column that one side lacks is null there."""
    for name in set(old.columns) ^ set(new.columns):
        old, new = (f if name in f.columns else f.with_columns(pl.lit(None).alias(name)) for f in (old, new))
    joined = old.with_columns(o=1).join(new.with_columns(n=1), on=key, how="full", coalesce=True, suffix="_new")
    both = joined.filter(pl.col("o").is_not_null() & pl.col("n").is_not_null())
    differs = {c: pl.col(c).ne_missing(pl.col(f"{c}_new")) for c in new.columns if c not in key}
    columns = {c: n for c, d in differs.items() if (n := both.filter(d).height)}
    changed = both.filter(pl.any_horizontal(differs.values())).height if differs else 0
    return RowCounts(joined["o"].null_count(), joined["n"].null_count(), changed), columns


def compare_revisions(lab: Lab, files: Sequence[Path], key: list[str], **options: Any) -> list[Diff]:
    """Write the revisions of a CSV file as versions of one table and compare neighbours with the peer's answer."""
    frames = [pl.read_csv(file, infer_schema_length=None, try_parse_dates=True, **options) for file in files]
    lab.key = tuple(key)
    for frame in frames:
        table = frame.to_arrow()
        plain_schema = pa.schema(
            [
                (f.name, pa.string() if pa.types.is_large_string(f.type) or f.type == pa.string_view() else f.type)
                for f in table.schema
            ]
        )
        lab.write(table.cast(plain_schema), name=files[0].stem, mode="overwrite", schema_mode="overwrite")
    diffs = [diff(lab.at(n, files[0].stem), lab.at(n + 1, files[0].stem)) for n in range(len(files) - 1)]
    for found, old, new in zip(diffs, frames, frames[1:], strict=False):
        assert found.key == tuple(key)
        assert (found.counts, found.columns) == peer(old, new, key)
    return diffs


def test_chinook_revisions(lab: Lab, shared_data: Path) -> None:
    """Of eleven tables two differ: every invoice's date, and the composer of one track."""
    folder, found = shared_data / "tables-chinook", {}
    schema = json.loads((folder / "2025-10" / "schema.json").read_text())
    for file in sorted((folder / "2025-10").glob("*.csv")):
        key = primary_key(schema, file.stem)
        (found[file.stem],) = compare_revisions(lab, [folder / "v1.4.5" / file.name, file], key)
    assert {name: d.columns for name, d in found.items() if d} == {
        "Invoice": {"InvoiceDate": 412},
        "Track": {"Composer": 1},
    }
    assert rows(found["Track"].changed(["Composer"]))[0]["old.Composer"] is None


def primary_key(schema: Any, name: str) -> list[str]:
    """The key of one table in Chinook's schema.json."""
    key: list[str] = schema[name]["primary_key"]
    return key


def test_nycflights_revisions(lab: Lab, shared_data: Path) -> None:
    """A column added, a number written in another way, and few real changes."""
    folder = shared_data / "tables-nycflights13"
    versions = ["v0.2.0", "v0.2.2", "v1.0.2"]
    nulls = {"null_values": ["NA", "\\N"]}
    first, second = compare_revisions(lab, [folder / v / "airports.csv" for v in versions], ["faa"], **nulls)
    assert first.schema.added == ("tzone",)
    assert (first.counts.added, first.counts.removed) == (62, 0)
    # Six latitudes and five longitudes are written with other digits; two of each are another double.
    assert (first.columns["lat"], first.columns["lon"]) == (2, 2)
    # Every time zone is written anew (-5 as -5.0); these have another value.
    assert first.columns["tz"] == 158
    assert not second.counts
    for name, key in (("airlines", ["carrier"]), ("planes", ["tailnum"])):
        assert not any(compare_revisions(lab, [folder / v / f"{name}.csv" for v in versions], key, **nulls))
    (weather,) = compare_revisions(
        lab, [folder / v / "weather.csv" for v in ("v0.2.0", "v1.0.2")], ["origin", "time_hour"], **nulls
    )
    assert weather.counts
