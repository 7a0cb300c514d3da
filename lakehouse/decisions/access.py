"""Access: whether it is controlled, who there is, what they were granted, and what they prove themselves with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lakehouse.decisions.value import Value

RoleName = Literal["reader", "writer", "publisher", "admin"]
"""What somebody may do in a scope; each role may also do what those before it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessControl(Value):
    """Whether grants count. Before it was ever switched on, everybody may do everything."""

    ENTITY = "access"
    enabled: bool
    changed_at: datetime
    changed_by: str = ""

    @property
    def key(self) -> str:
        return "access"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal(Value):
    """A person or a service that may be granted something."""

    ENTITY = "principal"
    name: str
    """The name that the operating system, a token or an identity provider gives it."""
    kind: Literal["person", "service"] = "person"
    description: str = ""
    created_at: datetime
    created_by: str = ""

    @property
    def key(self) -> str:
        return self.name.casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Value):
    """One role of one principal in one scope."""

    ENTITY = "grant"
    principal: str
    role: RoleName
    namespace: str
    """The namespace that it is about, or that of the dataset; `*` for the whole lakehouse."""
    series: str | None = None
    """Numbering of the only dataset that it is about, whatever its name."""
    created_at: datetime
    created_by: str = ""

    @property
    def key(self) -> str:
        return f"{self.series or self.namespace.casefold()}/{self.principal.casefold()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Value):
    """Something secret that proves who acts; only a digest of the secret is known here."""

    ENTITY = "token"
    token_id: str
    principal: str
    digest: str
    """SHA-256 of the secret in hex. The secret is random and long, so there is nothing to guess."""
    description: str = ""
    created_at: datetime
    created_by: str = ""
    expires_at: datetime
    revoked_at: datetime | None = None

    @property
    def key(self) -> str:
        return self.token_id


__all__ = ["AccessControl", "Grant", "Principal", "RoleName", "Token"]
