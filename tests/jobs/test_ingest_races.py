"""Ingests that meet each other, or the remains of one that died: every key once, nothing dropped unseen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jobs
from jobs.ingest import assets, items
from jobs.ingest import rows as row_module
from jobs.ingest.assets import AssetIngest
from jobs.ingest.rows import RowIngest
from lakehouse.errors import ConflictError
from lakehouse.lake import Lake

Folder = Callable[..., Path]


class Meeting:
    """A progress that lets something else happen once, when so many items were looked up."""

    def __init__(self, after: int, event: Callable[[], object]) -> None:
        self.left, self._event = after, event

    def total(self, items: int | None) -> None:
        """Say nothing."""

    def message(self, text: str) -> None:
        """Say nothing."""

    def advance(self, items: int) -> None:
        """Let it happen at the set point."""
        before, self.left = self.left, self.left - items
        if before > 0 >= self.left:
            self._event()


def paths(lake: Lake, name: str = "photos") -> list[str]:
    """All paths of a dataset, sorted, also those that are there twice."""
    return sorted(lake.read(name).to_arrow(["path"]).column("path").to_pylist())


def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit every few items or rows."""
    for name in ("BATCH_ROWS", "_GROUP_ITEMS"):
        monkeypatch.setattr(assets, name, 4)
    monkeypatch.setattr(items, "_LOAD_ITEMS", 2)
    monkeypatch.setattr(row_module, "BATCH_ROWS", 1)


def test_a_run_that_another_process_resumed_is_given_up(
    lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes at one run: the second to write a batch is told, instead of counting rows that were dropped."""
    small_batches(monkeypatch)
    source = folder({f"{i:02d}.png": i for i in range(20)})

    def other() -> None:
        jobs.ingest(lake, source, dataset="photos", resume=True)

    with pytest.raises(ConflictError) as error:
        jobs.ingest(lake, source, dataset="photos", progress=Meeting(9, other))
    assert error.value.kind == "run-taken"
    assert paths(lake) == [f"{i:02d}.png" for i in range(20)]


def test_a_run_over_tables_that_another_process_resumed_is_given_up(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for rows of a table without a key, which nothing else would tell apart."""
    small_batches(monkeypatch)
    files = [tmp_path / f"{i}.csv" for i in range(6)]
    for i, file in enumerate(files):
        file.write_text(f"n\n{i}\n")

    def other() -> None:
        jobs.ingest(lake, files, dataset="t", resume=True)

    with pytest.raises(ConflictError) as error:
        jobs.ingest(lake, files, dataset="t", progress=Meeting(3, other))
    assert error.value.kind == "run-taken"
    assert sorted(lake.read("t").to_arrow().column("n").to_pylist()) == list(range(6))


def test_two_appends_of_one_folder_give_every_path_once(lake_anywhere: Lake, folder: Folder, image: Any) -> None:
    """What another ingest added after the look-up is recognised, or refused when its bytes are others."""
    lake = lake_anywhere
    source = folder({"a.png": 1, "b.png": 2, "c.png": 3})
    before = folder({"a.png": 1, "b.png": 9}, "before")
    met: list[Any] = []

    def other() -> None:
        met.append(jobs.ingest(lake, before, dataset="photos"))

    report = jobs.ingest(lake, source, dataset="photos", progress=Meeting(3, other))
    assert met[0].ingested == 2
    assert paths(lake) == ["a.png", "b.png", "c.png"]
    assert (report.items, report.ingested, report.unchanged) == (3, 1, 1)
    assert report.rejects_by_code == {"path_exists": 1}
    assert lake.sql(f"select item, code from lake.rejects where run = '{report.run}'").fetchall() == [
        ("b.png", "path_exists")
    ]
    assert [asset.data for asset in lake.read("photos").assets(where="path = 'b.png'")] == [image(9)]


def test_two_appends_of_one_table_give_every_key_once(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row whose key another ingest added after the look-up is a reject like any other."""
    (tmp_path / "old.csv").write_text("id,n\n0,0\n")
    (tmp_path / "one.csv").write_text("id,n\n1,1\n2,1\n")
    (tmp_path / "two.csv").write_text("id,n\n2,2\n3,2\n")
    jobs.ingest(lake, tmp_path / "old.csv", dataset="t", key=["id"])
    checked, looked_up = RowIngest._checked, []

    def first_checked_then_overtaken(self: RowIngest, batch: Any) -> Any:
        good = checked(self, batch)
        if not looked_up:
            looked_up.append(True)
            jobs.ingest(lake, tmp_path / "two.csv", dataset="t")
        return good

    monkeypatch.setattr(RowIngest, "_checked", first_checked_then_overtaken)
    report = jobs.ingest(lake, tmp_path / "one.csv", dataset="t")
    rows = sorted(map(tuple, (row.values() for row in lake.read("t").to_arrow().to_pylist())))
    assert rows == [(0, 0), (1, 1), (2, 2), (3, 2)]
    assert (report.items, report.ingested, report.rejects_by_code) == (2, 1, {"key_exists": 1})
    [item] = lake.sql(f"select item from lake.rejects where run = '{report.run}'").fetchall()
    assert item == ('{"id": 2}',)


def test_bytes_stored_after_a_crash_are_found_again(
    lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch, interrupted: type[Exception]
) -> None:
    """A run that died between the index of hashes and its rows does not lose the hashes that it stores when resumed."""
    source = folder({"b.png": 1})

    def die(*_: Any) -> None:
        raise interrupted

    with monkeypatch.context() as patched:
        patched.setattr(AssetIngest, "_commit", die)
        with pytest.raises(interrupted):
            jobs.ingest(lake, source, dataset="photos")
    folder({"a.png": 2})
    assert jobs.ingest(lake, source, dataset="photos", resume=True).items == 2
    again = jobs.ingest(lake, source, dataset="more")
    assert (again.ingested, again.duplicates) == (0, 2)
