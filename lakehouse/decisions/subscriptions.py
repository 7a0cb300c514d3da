"""Subscriptions: who is told when something happens to milestones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lakehouse.decisions.value import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription(Value):
    """A receiver of notifications."""

    ENTITY = "subscription"
    name: str
    url: str
    """Where events are posted to; without a password. Of a channel whose whole URL is a secret: how that begins."""
    events: tuple[str, ...] = ()
    """Kinds of events; empty: all."""
    milestone: str = ""
    """Full name of the only milestone that it is about; empty: all."""
    secret_env: str = ""
    """Name of the environment variable that holds the signing key, or a channel's whole URL, where events are sent from;
    empty: not signed."""
    created_at: datetime
    """Events count that came later."""
    created_by: str = ""

    @property
    def key(self) -> str:
        return self.name.casefold()
