"""The hash chain: whatever is done to the ledger behind its back is found, and words can be erased."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lakehouse import upkeep
from lakehouse.chain import Proof, blanked, chained, check
from lakehouse.decisions import Chain, Decision, Tag
from lakehouse.ledger import LEDGER_KEY, SCHEMA, Ledger, State
from lakehouse.storage import Storage

Row = dict[str, Any]


@pytest.fixture
def ledger(root_uri: str) -> Ledger:
    """A ledger with the first decisions and four commits of two decisions each."""
    made = Ledger(Storage.open(root_uri), "me")
    made.create()
    for number in range(4):
        made.decide(two(number), message=f"message {number}")
    return made


def two(number: int) -> Callable[[State], tuple[None, list[Decision]]]:
    """Return a rule that sets two tags."""
    tags = [Tag(series="s", name=name, number=number) for name in ("a", "b")]
    return lambda state: (None, [Decision.put("tag.set", tag) for tag in tags])


def proof(ledger: Ledger, head: str | None = None) -> Proof:
    """Check the chain as a fresh process does."""
    return check(Ledger(ledger._storage, "auditor").replay(), head)


def stored(ledger: Ledger) -> list[Row]:
    """Return all rows of the ledger as they are stored, in order."""
    return [row for part in ledger.replay() for row in part.to_pylist()]


def store(ledger: Ledger, rows: list[Row]) -> None:
    """Put other rows in the place of the ledger's, as who holds the storage can."""
    uri, options = ledger._storage.uri(LEDGER_KEY), ledger._storage.options()
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    write_deltalake(DeltaTable(uri, storage_options=options), table, mode="overwrite")


def test_the_chain_covers_every_decision(ledger: Ledger) -> None:
    """A ledger that nobody touched matches; its head is the state's, and every earlier head is part of the chain."""
    found = proof(ledger)
    assert (found.ok, found.entries, found.uncovered, found.erased, found.commits) == (True, 12, 0, 0, 5)
    assert found.since == stored(ledger)[0]["at"]
    link = ledger.state().get(Chain, Chain.KEY)
    assert link is not None
    assert found.head == link.head
    ledger.decide(two(9))
    assert proof(ledger).head != found.head
    assert proof(ledger, found.head).ok
    assert "is no part of the chain" in (proof(ledger, "00" * 32).problem or "")


def test_the_history_leaves_links_out(ledger: Ledger) -> None:
    """Links are no decisions: the history has none, and a commit's decisions keep their positions."""
    rows = ledger.history().to_pylist()
    assert {row["entity"] for row in rows} == {"format", "data_tag", "tag"}
    assert [row["pos"] for row in rows[-2:]] == [0, 1]


def test_upkeep_leaves_the_chain_whole(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining files, making checkpoints and cleaning the log change nothing that the chain covers."""
    monkeypatch.setattr(upkeep, "EVERY", 3)
    for number in range(10):
        ledger.decide(two(number))
    found = proof(ledger)
    assert (found.ok, found.entries) == (True, 32)


def changed(rows: list[Row], place: int, **values: Any) -> list[Row]:
    """Return the rows with other values in one of them."""
    return [row | values if i == place else row for i, row in enumerate(rows)]


def swapped(rows: list[Row]) -> list[Row]:
    """Return the rows with two decisions of one commit in each other's place."""
    one, other = rows[8], rows[9]
    return [*rows[:8], other | {"pos": one["pos"]}, one | {"pos": other["pos"]}, *rows[10:]]


def exchanged(rows: list[Row]) -> list[Row]:
    """Return the rows with two whole commits in each other's place."""
    seqs = rows[8]["seq"], rows[11]["seq"]
    other = {seqs[0]: seqs[1], seqs[1]: seqs[0]}
    moved = [row | {"seq": other.get(row["seq"], row["seq"])} for row in rows]
    return sorted(moved, key=lambda row: (row["seq"], row["pos"]))


# Rows 0 to 4 are the first commit, then each has two tags and its link: 5 6 7, 8 9 10, 11 12 13, 14 15 16.
TAMPERED: dict[str, tuple[Callable[[list[Row]], list[Row]], int]] = {
    "a value": (lambda rows: changed(rows, 8, value='{"series":"s","name":"a","number":7}'), 8),
    "an actor": (lambda rows: changed(rows, 9, actor="somebody else"), 8),
    "a message": (lambda rows: changed(rows, 9, message=None), 8),
    "a time": (lambda rows: changed(rows, 8, at=rows[0]["at"]), 8),
    "an action": (lambda rows: changed(rows, 8, action="tag.remove"), 8),
    "a row removed": (lambda rows: [*rows[:9], *rows[10:]], 8),
    "the last row of a commit removed": (lambda rows: [*rows[:8], *rows[9:]], 8),
    "a row put in": (lambda rows: [*rows[:10], rows[8] | {"pos": 2}, rows[10] | {"pos": 3}, *rows[11:]], 8),
    "a row put behind the link": (lambda rows: [*rows[:11], rows[8] | {"pos": 3}, *rows[11:]], 8),
    "rows swapped": (swapped, 8),
    "commits exchanged": (exchanged, 8),
    "a commit removed": (lambda rows: [*rows[:8], *rows[11:]], 11),
    "the first commit removed": (lambda rows: rows[5:], 5),
    "a commit put in": (lambda rows: [*rows, rows[8] | {"seq": rows[-1]["seq"] + 1, "pos": 0}], 17),
    "a link removed": (lambda rows: [*rows[:10], *rows[11:]], 8),
    "a link's head": (lambda rows: changed(rows, 10, value=rows[7]["value"]), 8),
    "a link that is none": (lambda rows: changed(rows, 10, value='{"head":"nonsense"}'), 8),
    "words blanked, and nothing else": (lambda rows: changed(rows, 8, value=None, message=None), 8),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_found(tmp_path: Any, what: str) -> None:
    """Rows that were changed, removed, swapped or put in are found, and the first commit that does not match is named."""
    made = Ledger(Storage.open(str(tmp_path)), "me")
    made.create()
    for number in range(4):
        made.decide(two(number), message=f"message {number}")
    rows = stored(made)
    tamper, at = TAMPERED[what]
    seq = rows[at]["seq"] if at < len(rows) else rows[-1]["seq"] + 1
    store(made, tamper(rows))
    found = proof(made)
    assert not found.ok
    assert f"Ledger commit {seq} " in (found.problem or "")


def test_tampering_is_found_on_every_store(ledger: Ledger) -> None:
    """What a store holds is what is checked, a folder or S3."""
    store(ledger, changed(stored(ledger), 8, actor="somebody else"))
    assert not proof(ledger).ok


def test_a_chain_that_was_cut_off_matches_until_a_head_is_asked_for(ledger: Ledger) -> None:
    """Who removes the last commits leaves a chain that matches; a head that was noted before proves the loss."""
    head = proof(ledger).head
    store(ledger, stored(ledger)[:-3])
    assert proof(ledger).ok
    assert not proof(ledger, head).ok


def test_a_lake_of_an_earlier_release_gets_a_chain(ledger: Ledger) -> None:
    """The chain begins with the first decision of a release that makes one; earlier decisions are counted as not covered."""
    store(ledger, [row for row in stored(ledger) if row["entity"] != "chain"])
    assert proof(ledger) == Proof(0, 12, None, 0, 0, "", None)
    Ledger(ledger._storage, "me").decide(two(5))
    found = proof(ledger)
    assert (found.ok, found.entries, found.uncovered) == (True, 2, 12)


def test_words_can_be_erased(ledger: Ledger) -> None:
    """Erased words leave a chain that matches and says how many are gone; who decided when is still proven."""
    rows = stored(ledger)
    link = Chain.from_json(rows[10]["value"])
    kept, left = blanked(rows[8:10], link, [1])
    erased = [*rows[:8], *kept, rows[10] | {"value": left.to_json()}, *rows[11:]]
    store(ledger, erased)
    found = proof(ledger, link.head)
    assert (found.ok, found.entries, found.erased) == (True, 12, 1)
    assert "message 1" in str(kept[0])
    assert "message 1" not in str(kept[1])
    assert left.salt == ""
    assert left.salts[1] == ""
    assert link.salt not in left.to_json()
    for tampered in (changed(erased, 9, actor="x"), changed(erased, 9, message="x"), changed(erased, 8, message="x")):
        store(ledger, tampered)
        assert not proof(ledger).ok


def test_equal_decisions_have_different_digests() -> None:
    """Each commit has a salt of its own, so that what was erased can't be found by trying."""
    row = dict.fromkeys(SCHEMA.names, "x") | {"seq": 1, "pos": 0, "at": 0}
    rows = pa.Table.from_pylist([row], schema=SCHEMA)
    one, other = (Chain.from_json(chained(rows, None).to_pylist()[-1]["value"]) for _ in range(2))
    assert one.salt != other.salt
    assert one.head != other.head


def test_large_ledgers_are_checked_in_parts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows come in several parts that end between commits."""
    monkeypatch.setattr("lakehouse.ledger.TARGET_BYTES", 1)
    parts = [part.to_pylist() for part in ledger.replay()]
    assert len(parts) == 5
    assert [len({row["seq"] for row in part}) for part in parts] == [1] * 5
    assert proof(ledger).entries == 12
