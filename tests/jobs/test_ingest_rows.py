"""Tabular files through the whole ingest: rows, rejects with lines, modes, keys, corrections of assets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import catalog
import jobs
from jobs import TableOptions
from jobs.ingest import rows as row_module
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError
from lakehouse.lake import Lake

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a text file, returns its path."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return make


def values(lake: Lake, name: str = "t") -> list[tuple[Any, ...]]:
    """All rows, sorted."""
    table = lake.read(name).to_arrow()
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True), key=str)


def rejects(lake: Lake, run: str) -> list[dict[str, Any]]:
    """The rejects of a run, by line."""
    found = lake.sql(f"select * from lake.rejects where run = '{run}' order by line").to_arrow_table().to_pylist()
    return list(found)


def test_a_csv_file_becomes_a_typed_dataset(lake_anywhere: Lake, write: Write) -> None:
    """A new dataset takes its schema and key from the file and the call, on both backends; bad rows say their line."""
    rows = "".join(f"{i},name {i},{i}.5\n" for i in range(30))
    source = write("t.csv", f"id,name,price\n{rows}x,wrong id,1.0\n")
    report = jobs.ingest(lake_anywhere, source, dataset="t", key=["id"], license="CC0-1.0")
    assert (report.items, report.ingested, report.rejected, report.bytes) == (31, 30, 1, source.stat().st_size)
    snap = lake_anywhere.read("t")
    assert snap.schema == pa.schema([("id", pa.int64()), ("name", pa.string()), ("price", pa.float64())])
    assert snap.dataset.key_columns == ("id",)
    assert snap.dataset.license == "CC0-1.0"
    assert snap.get(7) == {"id": 7, "name": "name 7", "price": 7.5}
    [bad] = rejects(lake_anywhere, report.run)
    assert (bad["line"], bad["column_name"], bad["code"], bad["source"]) == (32, "id", "type_mismatch", str(source))


def test_append_does_not_repeat_a_key(lake: Lake, write: Write) -> None:
    """Rows whose key is there already are refused with their key; new ones land."""
    jobs.ingest(lake, write("t.csv", "id,name\n1,a\n2,b\n"), dataset="t", key=["id"])
    report = jobs.ingest(lake, write("u.csv", "id,name\n2,c\n3,d\n"), dataset="t")
    assert (report.ingested, report.rejects_by_code) == (1, {"key_exists": 1})
    assert values(lake) == [(1, "a"), (2, "b"), (3, "d")]
    assert rejects(lake, report.run)[0]["item"] == '{"id": 2}'


def test_append_without_a_key_adds_all(lake: Lake, write: Write) -> None:
    """A dataset without a key is a list: the same file twice is twice the rows."""
    source = write("t.csv", "id,name\n1,a\n2,b\n")
    jobs.ingest(lake, source, dataset="t")
    assert jobs.ingest(lake, source, dataset="t").ingested == 2
    assert len(values(lake)) == 4


def test_merge_updates_inserts_and_recognises(lake: Lake, write: Write) -> None:
    """A merge counts equal rows as unchanged; columns that the file lacks keep their values."""
    jobs.ingest(lake, write("t.csv", "id,name,n\n1,a,10\n2,b,20\n3,c,30\n"), dataset="t", key=["id"])
    report = jobs.ingest(lake, write("u.csv", "id,name\n1,a\n2,B\n4,d\n"), dataset="t", mode="merge")
    assert (report.items, report.ingested, report.unchanged) == (3, 2, 1)
    assert values(lake) == [(1, "a", 10), (2, "B", 20), (3, "c", 30), (4, "d", None)]


def test_labels_of_assets_are_corrected_by_a_table(lake: Lake, folder: Callable[..., Path], write: Write) -> None:
    """A merge into assets touches only what the file says, of assets that are there; other rows are refused."""
    jobs.ingest(lake, folder({"a.png": 1, "b.png": 2}), dataset="photos")
    before = {row["path"]: row for row in lake.read("photos").to_arrow().to_pylist()}
    source = write("labels.csv", "path,label\na.png,cat\nnone.png,dog\n")
    report = jobs.ingest(lake, source, dataset="photos", mode="merge", key=["path"])
    assert (report.ingested, report.rejects_by_code) == (1, {"key_unknown": 1})
    after = {row["path"]: row for row in lake.read("photos").to_arrow().to_pylist()}
    assert after == {**before, "a.png": {**before["a.png"], "label": "cat"}}
    with pytest.raises(InvalidInputError) as error:
        jobs.ingest(lake, source, dataset="photos")
    assert error.value.kind == "schema-missing-column"


def test_overwrite_is_whole_or_not_at_all(lake: Lake, write: Write) -> None:
    """An overwrite by several files is one commit; a bad file among them leaves the rows as they were."""
    jobs.ingest(lake, write("t.csv", "id,name\n1,a\n"), dataset="t")
    good, bad = write("u.csv", "id,name\n2,b\n3,c\n"), write("v.csv", 'id,name\n4,"d\n')
    with pytest.raises(InvalidInputError) as error:
        jobs.ingest(lake, [good, bad], dataset="t", mode="overwrite")
    assert error.value.kind == "csv-syntax"
    assert values(lake) == [(1, "a")]
    report = jobs.ingest(lake, [good, write("v.csv", "id,name\n4,d\n")], dataset="t", mode="overwrite")
    assert (report.ingested, report.table_version) == (3, 2)
    assert values(lake) == [(2, "b"), (3, "c"), (4, "d")]


def test_columns_are_added_only_when_allowed(lake: Lake, write: Write) -> None:
    """A new column is refused, and with evolve it is added, null in older rows, in every mode."""
    jobs.ingest(lake, write("t.csv", "id,name\n1,a\n"), dataset="t", key=["id"])
    wider = write("u.csv", "id,name,n\n2,b,20\n")
    for mode in ("append", "merge", "overwrite"):
        with pytest.raises(InvalidInputError) as error:
            jobs.ingest(lake, wider, dataset="t", mode=mode)
        assert error.value.kind == "schema-added-column"
    jobs.ingest(lake, wider, dataset="t", evolve=True)
    assert values(lake) == [(1, "a", None), (2, "b", 20)]
    jobs.ingest(lake, write("w.csv", "id,m\n1,7\n"), dataset="t", mode="merge", evolve=True)
    assert values(lake) == [(1, "a", None, 7), (2, "b", 20, None)]
    files = [write("x.csv", "id,name\n1,a\n"), write("y.csv", "id,k\n2,true\n")]
    jobs.ingest(lake, files, dataset="t", mode="overwrite", evolve=True)
    assert values(lake) == [(1, "a", None, None, None), (2, None, None, None, True)]


def test_a_folder_of_one_format_is_one_dataset(lake: Lake, write: Write, tmp_path: Path) -> None:
    """All files of a format below a folder are taken in order of path; several formats must be chosen from."""
    write("b/2.jsonl", '{"id": 2}\n{"id": 3}\nbroken\n')
    write("a/1.json", '[{"id": 1}]')
    report = jobs.ingest(lake, tmp_path / "files", dataset="t")
    assert (report.ingested, report.rejects_by_code) == (3, {"json_syntax": 1})
    assert lake.read("t").to_arrow().column("id").to_pylist() == [1, 2, 3]
    pq.write_table(pa.table({"id": [9]}), tmp_path / "files" / "c.parquet")
    with pytest.raises(InvalidInputError) as error:
        jobs.ingest(lake, tmp_path / "files", dataset="t")
    assert error.value.kind == "format-mixed"
    assert jobs.ingest(lake, tmp_path / "files", dataset="t", format="parquet").ingested == 1


def test_options_reach_the_reader(lake: Lake, write: Write) -> None:
    """What the caller declares about a file is what it is read as."""
    options = TableOptions(delimiter=";", decimal=",", types={"code": "string"})
    jobs.ingest(lake, write("t.csv", "code;price\n7;1,5\n"), dataset="t", options=options)
    assert values(lake) == [("7", 1.5)]


def test_a_refused_file_leaves_no_dataset(lake: Lake, write: Write) -> None:
    """A new dataset is made only when its first file can be read; the failed run is recorded with the reason."""
    with pytest.raises(InvalidInputError) as error:
        jobs.ingest(lake, write("t.csv", "id,ID\n1,2\n"), dataset="t")
    assert error.value.kind == "duplicate-column"
    with pytest.raises(NotFoundError):
        lake.read("t")
    [run] = lake.sql("select status, error from lake.runs").fetchall()
    assert run[0] == "failed"
    assert run[1].startswith("duplicate-column")


def test_warnings_about_files_are_counted_and_kept(lake: Lake, write: Write) -> None:
    """A finding that keeps no row out is counted apart from the rejects, and found again beside them."""
    report = jobs.ingest(lake, write("t.csv", "\nid,name\n1,a\n"), dataset="t")
    assert (report.warnings, report.rejected) == ({"blank_lines": 1}, 0)
    assert [(r["code"], r["severity"]) for r in rejects(lake, report.run)] == [("blank_lines", "warning")]


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_broken_run_is_resumed_batch_by_batch(
    lake: Lake,
    write: Write,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    interrupting: Any,
    interrupted: type[Exception],
) -> None:
    """Going on with a broken run adds what had not landed, and each reject once; changed files are not mixed in."""
    monkeypatch.setattr(row_module, "BATCH_ROWS", 1)
    files = [write(f"{i}.csv", f"id,n\n{2 * i},1\n{2 * i + 1},2,3\n") for i in range(6)]
    key = ["id"] if mode == "merge" else []
    with pytest.raises(interrupted):
        jobs.ingest(lake, files, dataset="t", mode=mode, key=key, progress=interrupting(4))
    landed = lake.read("t").num_rows
    assert 0 < landed < 6
    report = jobs.ingest(lake, files, dataset="t", mode=mode, key=key, resume=True)
    assert values(lake) == [(2 * i, 1) for i in sorted(range(6), key=lambda i: str((2 * i, 1)))]
    assert (report.items, report.rejected, report.unchanged) == (12, 6, landed)
    assert len(rejects(lake, report.run)) == 6
    with pytest.raises(interrupted):
        jobs.ingest(lake, files, dataset="u", mode=mode, key=key, progress=interrupting(4))
    files[0].write_text("id,n\n100,1\n")
    with pytest.raises(LakeError) as error:
        jobs.ingest(lake, files, dataset="u", mode=mode, key=key, resume=True)
    assert error.value.kind == "run-not-found"


def test_a_key_that_the_file_lacks_is_named(lake: Lake, write: Write) -> None:
    """A key column must be a column of the file."""
    with pytest.raises(InvalidInputError) as error:
        jobs.ingest(lake, write("t.csv", "id\n1\n"), dataset="t", key=["ID2"])
    assert error.value.kind == "unknown-column"


def test_split_means_nothing_for_tables(lake: Lake, write: Write) -> None:
    """Arguments of image ingest are refused for tables, not ignored."""
    with pytest.raises(InvalidInputError) as error:
        jobs.ingest(lake, write("t.csv", "id\n1\n"), dataset="t", split="train")
    assert error.value.kind == "option-not-for-format"


def test_a_key_in_two_files_of_an_overwrite_is_refused(lake: Lake, write: Write) -> None:
    """No row shows which of two files is right, so all rows with that key are rejects, with file and line."""
    jobs.ingest(lake, write("t.csv", "id,n\n9,9\n"), dataset="t", key=["id"])
    one, two = write("u.csv", "id,n\n1,1\n2,1\n"), write("v.csv", "id,n\n2,2\n3,2\n")
    report = jobs.ingest(lake, [one, two], dataset="t", mode="overwrite")
    assert values(lake) == [(1, 1), (3, 2)]
    assert (report.items, report.ingested, report.rejects_by_code) == (4, 2, {"primary_key": 2})
    found = {(r["source"], r["line"], r["column_name"]) for r in rejects(lake, report.run)}
    assert found == {(str(one), 3, "id"), (str(two), 2, "id")}


def test_a_merge_without_a_key_makes_nothing(lake: Lake, write: Write) -> None:
    """A merge that no key can place is refused before a dataset is made for it; with one it makes the dataset."""
    source = write("t.csv", "id,name\n1,a\n")
    with pytest.raises(InvalidInputError, match="--key") as caught:
        jobs.ingest(lake, source, dataset="t", mode="merge")
    assert caught.value.kind == "key-missing"
    assert catalog.list_datasets(lake) == []
    jobs.ingest(lake, source, dataset="t", mode="merge", key=["id"])
    assert values(lake) == [(1, "a")]
