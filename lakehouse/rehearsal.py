"""Rehearsals: what deciding something would give, judged as the decision itself, and not made."""

from __future__ import annotations

from copy import copy

from lakehouse.lake import Lake


def rehearsal(lake: Lake) -> Lake:
    """Return the same lake, whose decisions are judged by their rules and by access control, and not made.

    For functions that make one decision and nothing else, to show what it would be: what follows from a decision does
    not see it.
    """
    tried = copy(lake)
    tried.ledger = lake.ledger.rehearsing()
    return tried


__all__ = ["rehearsal"]
