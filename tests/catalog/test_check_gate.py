"""Publication: what fails a check of severity `error` is not published, whatever races with whatever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

import catalog
from lakehouse.errors import StateError
from lakehouse.lake import Lake, connect
from lakehouse.tables import Table
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string()), ("price", pa.float64())])


def item(number: int, label: str | None = "cat") -> dict[str, Any]:
    """Return one row."""
    return {"id": number, "label": label, "price": 1.0}


def rows(*items: dict[str, Any]) -> pa.Table:
    """Return rows as a table."""
    return pa.Table.from_pylist(list(items), schema=SCHEMA)


@pytest.fixture
def items(lake: Lake) -> Table:
    """A dataset in which one label is missing."""
    table = make_table(lake, "items", SCHEMA, key=["id"])
    table.append(rows(item(1), item(2, None), item(3, "dog")))
    return table


def test_failing_states_are_not_published(root_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    """On every backend an error blocks with names, counts and where to look; a warning is logged and recorded."""
    lake = make_lake(root_uri)
    table = make_table(lake, "items", SCHEMA, key=["id"])
    table.append(rows(item(1, None), item(2, None), item(2)))
    catalog.add_check(lake, "items", "not_null", ["label"])
    catalog.add_check(lake, "items", "unique", ["id"])
    catalog.add_check(lake, "items", "range", ["price"], parameters={"max": 0}, severity="warning")
    with pytest.raises(StateError) as caught:
        catalog.publish(lake, "items")
    assert caught.value.kind == "check-failed"
    assert caught.value.context["checks"] == {"not_null_label": 2, "unique_id": 1}
    assert "lakehouse check results 'main.items@#1' --samples" in caught.value.message
    assert catalog.list_versions(lake, "items") == []
    table.overwrite(rows(item(1), item(2)))
    assert catalog.publish(lake, "items").number == 1
    assert "range_price failed: 2 failing of 2 rows" in caplog.text
    found = {r.name: r.ok for r in catalog.check_results(lake, "items@v1")}
    assert found == {"not_null_label": True, "unique_id": True, "range_price": False}
    lake.table("items").append(rows(item(3, None)))
    assert catalog.publish(lake, "items@#2").number == 2


def test_errors_come_before_warnings(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    """What keeps a state from being published is told first, then what only warns, and what each counts."""
    make_table(lake, "items", SCHEMA).append(rows(item(1), item(1), item(1), item(2, "dog"), item(2)))
    catalog.add_check(lake, "items", "unique", ["id"])
    bounds = {"min_share": 0.5}
    catalog.add_check(lake, "items", "class_balance", ["label"], name="a", parameters=bounds, severity="warning")
    words = r"unique_id: 2 failing values in 5 rows\. Warnings: a: 1 failing class in 5 rows\."
    with pytest.raises(StateError, match=words):
        catalog.publish(lake, "items")
    assert caplog.text == ""
    catalog.remove_check(lake, "items", "unique_id")
    catalog.publish(lake, "items")
    assert "warning: the check a failed: 1 failing class in 5 rows" in caplog.text


@pytest.mark.parametrize("good", [True, False])
def test_a_check_that_comes_while_publishing(
    lake: Lake, items: Table, monkeypatch: pytest.MonkeyPatch, good: bool
) -> None:
    """A check that is declared between the run and the decision is run too, before anything is published."""
    decide, done = lake.ledger.decide, []

    def late(*args: Any, **kwargs: Any) -> Any:
        if not done:
            done.append(True)
            catalog.add_check(connect(lake.root), "items", "not_null", ["id" if good else "label"])
        return decide(*args, **kwargs)

    monkeypatch.setattr(lake.ledger, "decide", late)
    if good:
        assert catalog.publish(lake, "items").number == 1
        assert [r.ok for r in catalog.check_results(lake, "items@v1")] == [True]
        return
    with pytest.raises(StateError) as caught:
        catalog.publish(lake, "items")
    assert caught.value.kind == "check-failed"


def test_a_check_whose_parent_is_gone(lake: Lake, items: Table, caplog: pytest.LogCaptureFixture) -> None:
    """What a check reads may be deleted: an error then blocks and says why, and no result is kept; a warning is logged."""
    make_table(lake, "known", pa.schema([("id", pa.int64())]), key=["id"]).append(pa.table({"id": [1, 2, 3, 4]}))
    catalog.add_check(lake, "items", "foreign_key", ["id"], parameters={"to": "known"})
    catalog.add_check(lake, "items", "foreign_key", ["id"], name="soft", parameters={"to": "known"}, severity="warning")
    catalog.delete_dataset(lake, "known")
    with pytest.raises(StateError, match="was deleted"):
        catalog.publish(lake, "items")
    catalog.remove_check(lake, "items", "foreign_key_id")
    catalog.publish(lake, "items")
    assert "soft failed: The dataset main.known was deleted" in caplog.text
    assert catalog.check_results(lake, "items") == []


def test_copies_of_adopted_tables_are_judged(lake: Lake, tmp_path: Path) -> None:
    """A copy of an adopted table is published only when it passes the checks of the original."""
    write_deltalake(tmp_path / "theirs", pa.table({"id": pa.array([1, None], pa.int64())}))
    catalog.adopt_dataset(lake, "theirs", str(tmp_path / "theirs"))
    catalog.add_check(lake, "theirs", "not_null", ["id"])
    for copy in (False, True):
        with pytest.raises(StateError) as caught:
            catalog.publish(lake, "theirs", copy=copy)
        assert caught.value.kind == "check-failed"
    DeltaTable(tmp_path / "theirs").delete("id is null")
    assert catalog.publish(lake, "theirs", copy=True).number == 1
    assert [(r.name, r.ok) for r in catalog.check_results(lake, "theirs@v1")] == [("not_null_id", True)]


def test_no_state_is_published_past_a_check(lake: Lake, items: Table) -> None:
    """Of a check and a publication that race, the check came too late, or the publication is refused."""
    for number in range(6):
        name = f"race{number}"
        with ThreadPoolExecutor(2) as pool:
            adding = pool.submit(catalog.add_check, connect(lake.root), "items", "not_null", ["label"], name=name)
            publishing = pool.submit(catalog.publish, connect(lake.root), "items")
            adding.result()
            refused = publishing.exception()
        log = lake.ledger.history().to_pylist()
        (added,) = [r["seq"] for r in log if r["entity"] == "check" and r["key"].endswith(name)]
        published = [r["seq"] for r in log if r["action"] == "version.publish"]
        assert (isinstance(refused, StateError) and refused.kind == "check-failed") or max(published) < added
        catalog.remove_check(lake, "items", name)
