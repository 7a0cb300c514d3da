"""The hash chain over the decisions: each ledger commit has a link that stands for all commits up to it.

A link's head is SHA-256 over the head before and the digests of its commit's decisions. Since ledger commits are
compare-and-swap, the links are one line, and who changes, removes, adds or swaps a row has to write all later links
anew, which whoever kept a head can prove.

A digest covers the words of a decision, its value and its message, by a digest of their own that is salted. So erasure
stays possible: the words go together with their salt, their digest stays, nobody can find out by trying what they were,
and who decided what kind of thing when is still proven.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from itertools import groupby
from typing import Any

import pyarrow as pa

from lakehouse.decisions import Chain

Rows = Sequence[dict[str, Any]]
"""Decisions as rows of the ledger, without the one of the link."""
ACTION = "chain.link"
_FRAME = ("seq", "pos", "entity", "key", "action", "at", "actor", "run", "commit_id")
_BLANK = {"value": None, "message": None}


def chained(rows: pa.Table, before: Chain | None) -> pa.Table:
    """Return the rows of one ledger commit followed by the row of their link.

    Args:
        before: The link of the commit before; None: the chain begins here.
    """
    decisions = rows.to_pylist()
    salt = secrets.token_hex(16)
    words = [_words(row, _derived(salt, i)) for i, row in enumerate(decisions)]
    link = Chain(head=_head(before.head if before else "", decisions, words), salt=salt)
    last = decisions[-1] | {"pos": len(decisions), "entity": Chain.ENTITY, "key": Chain.KEY, "action": ACTION}
    last |= {"value": link.to_json(), "message": None}
    return pa.concat_tables([rows, pa.Table.from_pylist([last], schema=rows.schema)])


def blanked(decisions: Rows, link: Chain, positions: Iterable[int]) -> tuple[Rows, Chain]:
    """Return a commit's rows and its link without the words of some of them: what an erasure writes in their place.

    The head stays what it was. Only what a later decision replaced may be blanked, since the last one is the state.

    Args:
        positions: Which of the rows.
    """
    gone, words = frozenset(positions), _each_words(decisions, link)
    salts = tuple("" if i in gone else salt for i, salt in enumerate(_salts(link, len(decisions))))
    left = tuple("" if salt else digest for salt, digest in zip(salts, words, strict=True))
    rows = [row | _BLANK if i in gone else row for i, row in enumerate(decisions)]
    return rows, replace(link, salt="", salts=salts, digests=left)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a check of the whole chain found."""

    entries: int
    """Decisions that the chain covers, up to the problem if there is one."""
    uncovered: int
    """Earlier decisions: those of releases that made no chain."""
    since: datetime | None
    """Time of the first decision that is covered; None: none is."""
    erased: int
    """Covered decisions whose words an erasure has taken; their digests are still part of the chain."""
    commits: int
    """Ledger commits that are covered."""
    head: str
    """The chain's end, to be kept elsewhere; empty: there is no chain."""
    problem: str | None
    """Which commit does not match, and what may have happened; None: all match."""
    data_commits: int | None = None
    """Data commits that match, up to the last published versions; None: not looked at, since the decisions do not match."""
    data_erased: int = 0
    """Those of them whose message an erasure has taken."""

    @property
    def ok(self) -> bool:
        """Whether every link matches."""
        return self.problem is None


def check(parts: Iterable[pa.Table], head: str | None = None) -> Proof:
    """Check every link of the chain.

    Args:
        parts: All rows of the ledger in order, whole commits in each part; one part is held at a time.
        head: A head that was noted earlier, in hex: it must be one of the links'.
    """
    proof, known, problem = Proof(0, 0, None, 0, 0, "", None), head is None, None
    for seq, rows in _commits(parts):
        link, decisions = _taken_apart(rows)
        if link is None and not proof.head and not any(row["entity"] == Chain.ENTITY for row in rows):
            proof = replace(proof, uncovered=proof.uncovered + len(rows))
            continue
        problem = _mismatch(seq, proof.head, link, decisions)
        if problem is not None or link is None:
            break
        proof = replace(
            proof,
            entries=proof.entries + len(decisions),
            since=proof.since or decisions[0]["at"],
            erased=proof.erased + len(list(filter(None, link.digests))),
            commits=proof.commits + 1,
            head=link.head,
        )
        known = known or link.head == head
    if problem is None and not known:
        problem = f"The head {head} is no part of the chain: decisions up to it were replaced or removed."
    return replace(proof, problem=problem)


def _commits(parts: Iterable[pa.Table]) -> Iterator[tuple[int, Rows]]:
    for part in parts:
        for seq, rows in groupby(part.to_pylist(), key=lambda row: row["seq"]):
            yield seq, list(rows)


def _taken_apart(rows: Rows) -> tuple[Chain | None, Rows]:
    """Return the link and the decisions of a commit; None for a link that can't be read or is not the last row."""
    last = rows[-1]
    if last["entity"] != Chain.ENTITY or last["pos"] != len(rows) - 1 or not last["value"]:
        return None, rows
    try:
        return Chain.from_json(last["value"]), rows[:-1]
    except (ValueError, TypeError):
        return None, rows


def _mismatch(seq: int, before: str, link: Chain | None, decisions: Rows) -> str | None:
    """Return what is wrong with a commit, None when it matches."""
    if link is None or not decisions:
        return (
            f"Ledger commit {seq} has no link of the chain, or more rows than it had: rows were removed or put in, or a "
            "release that makes no chain decided."
        )
    try:
        matches = _head(before, decisions, _each_words(decisions, link)) == link.head
    except ValueError:  # no hexadecimal digits, or not as many as there are decisions
        matches = False
    if matches:
        return None
    return (
        f"Ledger commit {seq} of {decisions[0]['at']:%Y-%m-%d %H:%M:%S} UTC does not match its link: one of its decisions "
        "was changed, removed, put in or moved, or commits before it were."
    )


def _head(before: str, decisions: Rows, words: Iterable[str]) -> str:
    digests = (_digest(row, digest) for row, digest in zip(decisions, words, strict=True))
    return sha256(bytes.fromhex(before) + b"".join(digests)).hexdigest()


def _each_words(decisions: Rows, link: Chain) -> list[str]:
    """Return the digest of each decision's words.

    Raises:
        ValueError: the link is of another number of decisions, or what it calls blanked is not blank.
    """
    kept = link.digests or ("",) * len(decisions)
    found = zip(decisions, _salts(link, len(decisions)), kept, strict=True)
    return [_erased(row, digest) if digest else _words(row, salt) for row, salt, digest in found]


def _erased(row: dict[str, Any], digest: str) -> str:
    if row["value"] is not None or row["message"] is not None:
        raise ValueError("a blanked decision has words")
    return digest


def _salts(link: Chain, count: int) -> Sequence[str]:
    return link.salts or [_derived(link.salt, i) for i in range(count)]


def _derived(salt: str, position: int) -> str:
    return hmac.new(bytes.fromhex(salt), str(position).encode(), sha256).hexdigest()


def _words(row: dict[str, Any], salt: str) -> str:
    return sha256(bytes.fromhex(salt) + canonical([row["value"], row["message"]])).hexdigest()


def _digest(row: dict[str, Any], words: str) -> bytes:
    return sha256(canonical([*(row[name] for name in _FRAME), words])).digest()


def canonical(parts: list[Any]) -> bytes:
    """Return the bytes that stand for values of JSON and times in a digest."""
    return json.dumps(parts, default=datetime.isoformat, separators=(",", ":")).encode()


__all__ = ["ACTION", "Proof", "blanked", "canonical", "chained", "check"]
