"""Diffs of real Delta tables: when values are equal, keys, files, and the diff as a value."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.diff import Diff, RowCounts, diff
from lakehouse.errors import InvalidInputError
from tests.support.delta_lab import Lab, rows

NAN = float("nan")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Tables in a fresh folder."""
    return Lab(str(tmp_path / "lake"))


# -- when values are equal ------------------------------------------------------------------------------------------


def column(kind: pa.DataType, *data: Any) -> pa.Array:
    """An Arrow array, written short."""
    return pa.array(data, kind)


BIG = 2**53
struct, wide_struct = pa.struct([("a", pa.int32())]), pa.struct([("a", pa.int64()), ("b", pa.string())])


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        pytest.param(column(pa.int32(), 1, 2, None), column(pa.int64(), 1, 3, None), [1], id="integers"),
        pytest.param(column(pa.float32(), 0.5, NAN, 0.1), column(pa.float64(), 0.5, NAN, 0.1), [2], id="floats"),
        pytest.param(
            column(pa.int64(), 5, BIG, BIG + 1), column(pa.float64(), 5.0, BIG, BIG), [2], id="integer-float-exact"
        ),
        pytest.param(column(pa.float64(), 1.5, NAN, None), column(pa.int32(), 1, 1, None), [0, 1], id="float-integer"),
        pytest.param(
            column(pa.decimal128(10, 2), Decimal("1.50"), Decimal(2), None),
            column(pa.decimal128(12, 4), Decimal("1.5"), Decimal("2.0001"), None),
            [1],
            id="decimals",
        ),
        pytest.param(
            column(pa.decimal128(10, 2), Decimal("0.99"), Decimal(3)),
            column(pa.float64(), 0.99, 3.5),
            [1],
            id="decimal-double",
        ),
        pytest.param(
            column(pa.int64(), 3, 4),
            column(pa.decimal128(20, 1), Decimal(3), Decimal("4.5")),
            [1],
            id="integer-decimal",
        ),
        pytest.param(
            column(pa.decimal128(38, 0), Decimal(1), None),
            column(pa.decimal128(38, 10), Decimal(1), None),
            [0],
            id="decimals-too-wide",
        ),
        pytest.param(
            column(pa.date32(), date(2026, 1, 1), date(2026, 1, 2)),
            column(pa.timestamp("us"), datetime(2026, 1, 1), datetime(2026, 1, 2, 12)),  # noqa: DTZ001
            [1],
            id="date-timestamp",
        ),
        pytest.param(column(pa.int64(), 1, None), column(pa.string(), "1", None), [0], id="not-comparable"),
        pytest.param(
            column(struct, {"a": 1}, {"a": None}, {"a": 2}),
            column(wide_struct, {"a": 1, "b": None}, {"a": None, "b": None}, {"a": 2, "b": ""}),
            [2],
            id="nested-field-added",
        ),
        pytest.param(
            column(pa.list_(struct), [{"a": 1}], [], [None]),
            column(pa.list_(wide_struct), [{"a": 1}], None, [None]),
            [1],
            id="list-of-structs",
        ),
        pytest.param(column(pa.binary(), b"", b"a"), column(pa.binary(), None, b"a"), [0], id="empty-is-not-null"),
    ],
)
def test_values_are_compared_after_widening(lab: Lab, old: pa.Array, new: pa.Array, changed: list[int]) -> None:
    """A change of type alone changes no row; what the types can't compare differs unless it is null."""
    ids = pa.array(range(len(old)))
    found = lab.replaced(pa.table({"id": ids, "v": old}), pa.table({"id": ids, "v": new}))
    assert [r["id"] for r in rows(found.changed())] == changed
    assert found.columns == ({"v": len(changed)} if changed else {})
    assert [(c.name, c.old_type != c.new_type) for c in found.schema.changed] == (
        [("v", True)] if old.type != new.type else []
    )
    as_rows = diff(found.old, found.new, key=())
    assert as_rows.counts == RowCounts(len(changed), len(changed))
    kept = [new.to_pylist()[n] for n in changed]
    assert sorted(map(repr, (r["v"] for r in rows(as_rows.added())))) == sorted(map(repr, kept))
    assert next(as_rows.removed(), found.old.schema.empty_table()).schema == found.old.schema


def test_a_missing_column_is_null(lab: Lab) -> None:
    """An added column changes only the rows in which it is filled, and a removed one those in which it was."""
    lab.write(pa.table({"id": [1, 2, 3], "gone": ["x", None, None]}))
    lab.write(pa.table({"id": [1, 2, 3], "more": [None, None, 7]}), mode="overwrite", schema_mode="overwrite")
    found = diff(lab.at(0), lab.at(1))
    assert (found.schema.added, found.schema.removed, found.schema.changed) == (("more",), ("gone",), ())
    assert found.counts == RowCounts(changed=2)
    assert found.columns == {"more": 1, "gone": 1}
    assert rows(found.changed()) == [
        {"id": 1, "old.more": None, "new.more": None, "old.gone": "x", "new.gone": None, "changed_columns": ["gone"]},
        {"id": 3, "old.more": None, "new.more": 7, "old.gone": None, "new.gone": None, "changed_columns": ["more"]},
    ]


def test_a_column_of_nulls_changes_no_row(lab: Lab) -> None:
    """Adding an empty column is a change of the schema only."""
    found = lab.replaced(pa.table({"id": [1, 2]}), pa.table({"id": [1, 2], "more": pa.nulls(2, pa.string())}))
    assert found
    assert not found.counts
    assert diff(found.old, found.new, key=()).counts == RowCounts()


def test_a_column_renamed_in_case_is_the_same_column(lab: Lab) -> None:
    """Names are paired ignoring case, key columns too; the schema says what changed."""
    found = lab.replaced(pa.table({"ID": [1, 2], "Size": [5, 6]}), pa.table({"id": [1, 2], "size": [5, 7]}))
    assert found.key == ("id",)
    assert found.columns == {"size": 1}
    assert [(c.old_name, c.name) for c in found.schema.changed] == [("ID", "id"), ("Size", "size")]
    assert "Size -> size" in found.summary


# -- keys that can't be used ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        pytest.param(
            column(pa.int32(), 1, 2), column(pa.int64(), 1, 3), "changed its type from int32 to int64", id="type"
        ),
        pytest.param(column(pa.int64(), 1, None), column(pa.int64(), 1, 3), "is null", id="null"),
        pytest.param(column(pa.int64(), 1, 2), column(pa.int64(), 3, 3), "not unique in main.t@#1", id="twice-new"),
        pytest.param(column(pa.int64(), 1, 1), column(pa.int64(), 1, 3), "not unique in main.t@#0", id="twice-old"),
    ],
)
def test_a_key_that_identifies_no_row_falls_back(lab: Lab, old: pa.Array, new: pa.Array, reason: str) -> None:
    """The rows are then compared as multisets, and the diff says why."""
    found = lab.replaced(pa.table({"id": old, "v": ["a", "b"]}), pa.table({"id": new, "v": ["a", "b"]}))
    assert found.key is None
    assert reason in (found.fallback or "")
    assert reason in found.summary
    gone, come = Counter(zip(old.to_pylist(), "ab", strict=True)), Counter(zip(new.to_pylist(), "ab", strict=True))
    assert found.counts == RowCounts((come - gone).total(), (gone - come).total())
    assert found.columns == {}
    assert rows(found.changed()) == []


def test_a_missing_key_column_falls_back(lab: Lab) -> None:
    """A key that only one state has can't match rows."""
    found = lab.replaced(pa.table({"v": [1, 2]}), pa.table({"id": [1, 2], "v": [1, 2]}))
    assert found.key is None
    assert found.fallback == "the key column 'id' is missing in main.t@#0"
    assert found.counts == RowCounts(2, 2)


def test_a_key_shared_with_an_unchanged_file_falls_back(lab: Lab) -> None:
    """A row that is added under a key that an untouched file holds already makes the key ambiguous."""
    lab.write(pa.table({"id": [1, 2, 3], "v": [1, 2, 3]}))
    lab.write(pa.table({"id": [3], "v": [4]}), mode="append")
    found = diff(lab.at(0), lab.at(1))
    assert found.files.common == 1
    assert found.key is None
    assert "not unique" in (found.fallback or "")
    assert found.counts == RowCounts(added=1)


def test_duplicates_are_counted_as_often_as_they_occur(lab: Lab) -> None:
    """As multisets, a row that occurs once more is added once; all its copies come out of the stream."""
    found = lab.replaced(pa.table({"v": ["a", "a", "b", None]}), pa.table({"v": ["a", None, None, None]}), key=())
    assert found.fallback is None
    assert found.counts == RowCounts(added=2, removed=2)
    assert rows(found.added()) == [{"v": None}, {"v": None}]
    assert rows(found.removed()) == [{"v": "a"}, {"v": "b"}]


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_rewrite_of_equal_rows_is_no_difference(lab: Lab) -> None:
    """Compaction replaces files and changes no row."""
    lab.write(pa.table({"id": [1], "v": [1.0]}))
    lab.write(pa.table({"id": [2], "v": [NAN]}), mode="append")
    lab.table().optimize.compact()
    for key in (None, ()):
        found = diff(lab.at(1), lab.at(2), key)
        assert not found
        assert (found.files.added, found.files.removed, found.files.common) == (1, 2, 0)
        assert "no difference" in found.summary


def test_a_state_does_not_differ_from_itself(lab: Lab) -> None:
    """No file is read for it: there may be none left."""
    lab.write(pa.table({"id": [1]}))
    state = lab.at(0)
    for path in state.files():
        Path(path).unlink()
    assert not diff(state, lab.at(0))
    assert rows(diff(state, lab.at(0)).added()) == []


def test_files_that_both_states_list_are_not_read(lab: Lab) -> None:
    """The cost follows the change: common files may even be gone."""
    lab.write(pa.table({"id": list(range(100)), "v": [0] * 100}))
    lab.write(pa.table({"id": [100, 101], "v": [1, 1]}), mode="append")
    old, new = lab.at(0), lab.at(1)
    for path in old.files():
        Path(path).unlink()
    assert diff(old, new, key=()).counts == RowCounts(added=2)


def test_a_file_kept_under_another_schema_is_compared(lab: Lab) -> None:
    """A column that a commit drops disappears from files that stay listed: those rows changed as well."""
    lab.key = ("p",)
    lab.write(pa.table({"p": [1, 2], "x": [1, 2], "y": ["a", "b"]}), partition_by=["p"])
    lab.write(pa.table({"p": [1], "x": [1]}), mode="overwrite", schema_mode="overwrite", predicate="p = 1")
    found = diff(lab.at(0), lab.at(1))
    assert found.files.common == 1
    assert found.columns == {"y": 2}


def test_an_added_column_leaves_older_files_unread(lab: Lab) -> None:
    """Files that don't hold the new column are equal in both states: only the appended row is reported."""
    lab.write(pa.table({"id": [1, 2]}))
    lab.write(pa.table({"id": [3], "more": ["x"]}), mode="append", schema_mode="merge")
    found = diff(lab.at(0), lab.at(1))
    assert found.counts == RowCounts(added=1)
    assert len(found._way.rows.sides.new.file_list) == 1
    assert len(found._way.rows.sides.common.file_list) == 1


def test_partition_columns_are_compared(lab: Lab) -> None:
    """Values that only the path of a file tells take part, null among them."""
    data = pa.table({"id": [1, 2, 3], "p": ["a b", None, "c"], "n": [1, 2, 3]})
    lab.write(data, partition_by=["p"])
    lab.write(data.set_column(1, "p", pa.array(["a b", "x", "d"])), mode="overwrite")
    found = diff(lab.at(0), lab.at(1))
    assert found.columns == {"p": 2}
    assert [(r["old.p"], r["new.p"]) for r in rows(found.changed())] == [(None, "x"), ("c", "d")]


def test_a_column_renamed_by_mapping_is_read_by_its_new_name(lab: Lab) -> None:
    """With column mapping one file has other columns in either state, so that no file counts as equal."""
    lab.write(pa.table({"id": [1, 2], "v": [5, 6]}))
    log = Path(lab.storage.uri("t")) / "_delta_log"
    actions = [json.loads(line) for line in (log / f"{0:020}.json").read_text().splitlines()]
    metadata = next(a["metaData"] for a in actions if "metaData" in a)

    def commit(version: int, names: dict[str, str], *others: dict[str, Any]) -> None:
        schema = json.loads(metadata["schemaString"])
        for number, field in enumerate(schema["fields"], 1):
            field["metadata"] = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": field["name"]}
            field["name"] = names.get(field["name"], field["name"])
        mapping = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"}
        action = {"metaData": {**metadata, "schemaString": json.dumps(schema), "configuration": mapping}}
        (log / f"{version:020}.json").write_text("\n".join(json.dumps(a) for a in [*others, action]))

    commit(1, {}, {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}})
    commit(2, {"v": "w"})
    found = diff(lab.at(1), lab.at(2))
    assert (found.schema.added, found.schema.removed) == (("w",), ("v",))
    assert found.columns == {"w": 2, "v": 2}
    assert found.files.common == 1


def test_two_datasets_are_compared_by_their_rows(lab: Lab) -> None:
    """No file is common to two tables; equal rows are equal all the same."""
    lab.write(pa.table({"id": [1, 2], "v": ["a", "b"]}))
    lab.write(pa.table({"v": ["b", "a"], "id": [2, 1]}), name="copy")
    assert not diff(lab.at(0), lab.at(0, "copy"))


def test_an_emptied_table(lab: Lab) -> None:
    """A state without files is a state without rows."""
    lab.write(pa.table({"id": [1, 2], "v": ["a", "b"]}))
    lab.table().delete()
    for key in (None, ()):
        assert diff(lab.at(0), lab.at(1), key).counts == RowCounts(removed=2)
        assert diff(lab.at(1), lab.at(0), key).counts == RowCounts(added=2)


def test_both_backends(root_uri: str) -> None:
    """The same edits give the same diff in a folder and on S3."""
    lab = Lab(root_uri)
    lab.write(pa.table({"id": [1, 2, 3], "v": [0, 0, 0]}))
    lab.write(pa.table({"id": [7, 8, 9], "v": [0, 0, 0]}), mode="append")
    lab.table().delete("id = 2")
    lab.table().update(predicate="id = 3", new_values={"v": 1})
    lab.write(pa.table({"id": [4], "v": [0], "more": ["x"]}), mode="append", schema_mode="merge")
    found = diff(lab.at(1), lab.at())
    assert found.counts == RowCounts(added=1, removed=1, changed=1)
    assert found.columns == {"v": 1}
    assert found.files.common == 1
    assert rows(found.added()) == [{"id": 4, "v": 0, "more": "x"}]


# -- the value ------------------------------------------------------------------------------------------------------


@pytest.fixture
def edited(lab: Lab) -> Diff:
    """Rows 5 added, 1 removed, 2 and 3 changed in one column each."""
    old = pa.table({"id": [3, 1, 2, 4], "a": [1, 1, 1, 1], "odd name's": ["x", "x", "x", "x"]})
    new = pa.table({"id": [6, 4, 3, 2, 5], "a": [9, 1, 1, 2, 1], "odd name's": ["x", "x", "y", "x", "x"]})
    return lab.replaced(old, new)


def test_streams_are_ordered_by_key_and_limited_to_columns(edited: Diff) -> None:
    """Rows come in the key's order; `columns` chooses what comes, and for changed rows which changes count."""
    assert rows(edited.added(["a", "id"])) == [{"a": 1, "id": 5}, {"a": 9, "id": 6}]
    assert rows(edited.removed()) == [{"id": 1, "a": 1, "odd name's": "x"}]
    assert [(r["id"], r["changed_columns"]) for r in rows(edited.changed())] == [(2, ["a"]), (3, ["odd name's"])]
    assert rows(edited.changed(["odd name's"])) == [
        {"id": 3, "old.odd name's": "x", "new.odd name's": "y", "changed_columns": ["odd name's"]}
    ]
    assert rows(edited.added()) == rows(edited.added())


def test_the_json_form_has_the_documented_keys(edited: Diff) -> None:
    """Programs rely on these names."""
    assert edited.to_json() == {
        "old": "main.t@#0",
        "new": "main.t@#1",
        "key": ["id"],
        "rows": {"added": 2, "removed": 1, "changed": 2},
        "columns": {"a": 1, "odd name's": 1},
        "schema": {"added": [], "removed": [], "changed": []},
        "files": {"added": 1, "removed": 1, "common": 0},
        "via": "files",
        "cost": {"files": 2, "bytes": edited.old.file_list.bytes + edited.new.file_list.bytes},
    }
    assert json.loads(json.dumps(edited.to_json())) == edited.to_json()


def test_the_summary_says_what_changed(edited: Diff) -> None:
    """A person reads counts, columns, the key and the files."""
    assert edited.summary == (
        "main.t@#0 -> main.t@#1: 2 added, 1 removed, 2 changed (a 1, odd name's 1)\nmatched by id; files: 1 added, 1 removed, 0 common\n"
        "compared by files: 2 files, 0.0 MB at most"
    )


def test_unknown_columns_are_refused(edited: Diff) -> None:
    """A name that is not there is an error at the call, with a suggestion, not an empty stream."""
    for call in (edited.added, edited.removed, edited.changed):
        with pytest.raises(InvalidInputError, match="odd name") as caught:
            call(["odd names"])
        assert caught.value.kind == "column-not-found"
    with pytest.raises(InvalidInputError):
        diff(edited.old, edited.new, key=["idd"])


def test_a_diff_pickles(edited: Diff) -> None:
    """Another process gets the same value, and reads the rows itself."""
    copy = pickle.loads(pickle.dumps(edited))
    assert copy.to_json() == edited.to_json()
    assert rows(copy.added()) == rows(edited.added())
