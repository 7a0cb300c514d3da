"""The link that each ledger commit adds to the chain of all commits."""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse.decisions.value import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain(Value):
    """The end of the chain: it stands for every decision since the chain began; `lakehouse.chain` computes it."""

    ENTITY = "chain"
    KEY = "head"
    head: str
    """SHA-256 over the head before and the digests of this commit's decisions, in hex."""
    salt: str = ""
    """What the salts of this commit's decisions are derived from, in hex; empty once the words of one were erased."""
    salts: tuple[str, ...] = ()
    """After that: the salt of each decision, in hex; empty for an erased one."""
    digests: tuple[str, ...] = ()
    """After that: the digest of each erased decision's words, in hex; empty for the others."""

    @property
    def key(self) -> str:
        return self.KEY
