"""Notifications: subscribers are told of events, by signed webhooks or other channels, again until it was taken.

What was not delivered yet is found anew each time from the events and the record of deliveries, so a receiver that is
down, or a sender that dies, loses nothing. A receiver may get an event twice, with the same id.

Source: Standard Webhooks 1.0 (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pyarrow as pa

from catalog.channels import check_channel, is_webhook, tell
from catalog.events import KINDS, Event, find_events
from lakehouse.decisions import Decision, Subscription
from lakehouse.errors import InvalidInputError, NotFoundError, StateError, suggest
from lakehouse.facts import SCHEMAS
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import parse_milestone_ref
from lakehouse.resolution import find_milestone
from lakehouse.visibility import visible

TIMEOUT_S = 10.0
"""Seconds within which a receiver has to answer."""
OVERDUE = timedelta(days=7)
"""How long a milestone's version is pending before that is told."""
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=6)
_TABLE = "deliveries"


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a milestone's owner wants to be told; `subscribe` says what each field is."""

    name: str
    url: str
    events: tuple[str, ...] = ()
    secret_env: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to tell a subscriber of an event."""

    subscription: str
    event: str
    at: datetime
    ok: bool
    status: int | None = None
    """The receiver's HTTP status; None when it did not answer."""
    error: str | None = None
    """Why it failed."""
    next_at: datetime | None = None
    """When it is tried again; None when it was delivered, a later attempt followed, or there is nothing to tell any more."""


def subscribe(
    lake: Lake,
    name: str,
    url: str,
    *,
    events: Sequence[str] = (),
    milestone: str | None = None,
    secret_env: str = "",
) -> Subscription:
    """Tell a receiver of events from now on.

    Args:
        name: Of the subscription.
        url: Where events are posted to, as JSON: {type, timestamp, data}. Or a URL that Apprise knows, such as
            `json://host:8080`; with `secret_env` only how it begins: `slack://`.
        events: Kinds of events; none means all.
        milestone: Only this one.
        secret_env: Environment variable that holds the secret where events are sent from. Of a webhook it is the signing
            key, in base64 if it begins with `whsec_`; without one, nothing is signed. Of another channel it is its whole
            URL.
    Raises:
        InvalidInputError: an unknown kind (event-unknown), a URL of no known channel (url-invalid) or one with a secret
            (secret-in-url); Apprise is not installed (extra-missing).
        NotFoundError: milestone-not-found.
        StateError: the name is taken (subscription-exists).
    """
    target = Target(name, url, tuple(events), secret_env)
    check_target(target)

    def rule(state: State) -> tuple[Subscription, list[Decision]]:
        _refuse_taken(state, name)
        value = _subscription(state, target, milestone, lake.actor)
        return value, [Decision.put("subscription.create", value)]

    return lake.ledger.decide(rule).result


def subscribe_all(lake: Lake, milestone: str, targets: Sequence[Target]) -> list[Subscription]:
    """Tell these receivers of a milestone's events from now on, in one decision; those that are told so already stay.

    Raises:
        InvalidInputError, NotFoundError: as `subscribe`.
        StateError: a name is taken by a subscription that is not about this milestone (subscription-exists).
    """
    for target in targets:
        check_target(target)

    def rule(state: State) -> tuple[list[Subscription], list[Decision]]:
        wanted, made = [_subscription(state, t, milestone, lake.actor) for t in targets], list[Decision]()
        for value in wanted:
            known = state.get(Subscription, value.key)
            if known is not None and known.milestone != value.milestone:
                _refuse_taken(state, value.name)
            if known is None or replace(known, created_at=value.created_at, created_by=value.created_by) != value:
                made.append(Decision.put("subscription.create", value))
        return wanted, made

    return lake.ledger.decide(rule).result


def check_target(target: Target) -> None:
    """Refuse a receiver that can't be told; errors as `subscribe`."""
    for kind in target.events:
        if kind not in KINDS:
            raise InvalidInputError(
                "event-unknown", f"There is no event {kind!r}.{suggest(kind, list(KINDS))} Events: {', '.join(KINDS)}."
            )
    if is_webhook(target.url):
        _check_webhook(target.name, target.url)
    else:
        check_channel(target.name, target.url, target.secret_env)


def _refuse_taken(state: State, name: str) -> None:
    if state.get(Subscription, name.casefold()) is not None:
        raise StateError("subscription-exists", f"A subscription named {name!r} exists already.")


def _subscription(state: State, target: Target, milestone: str | None, actor: str) -> Subscription:
    ref = parse_milestone_ref(milestone) if milestone else None
    return Subscription(
        name=target.name,
        url=target.url,
        events=target.events,
        milestone=find_milestone(state, f"{ref.namespace}.{ref.name}").full_name if ref else "",
        secret_env=target.secret_env,
        created_at=datetime.now(UTC),
        created_by=actor,
    )


def _check_webhook(name: str, url: str) -> None:
    parts = urlsplit(url)
    if not parts.hostname:
        raise InvalidInputError("url-invalid", f"The URL of {name!r} names no host. Give https://host/path.")
    if parts.username or parts.password:
        raise InvalidInputError(
            "secret-in-url", f"The URL of {name!r} carries a user or password. Sign events with a secret instead."
        )


def unsubscribe(lake: Lake, name: str) -> Subscription:
    """End a subscription.

    Raises:
        NotFoundError: there is none of that name (subscription-not-found).
    """

    def rule(state: State) -> tuple[Subscription, list[Decision]]:
        found = _find_subscription(state, name)
        return found, [Decision.remove("subscription.delete", found)]

    return lake.ledger.decide(rule).result


def _find_subscription(state: State, name: str) -> Subscription:
    """Return the subscription that `unsubscribe` would end; errors as there."""
    found = state.get(Subscription, name.casefold())
    if found is None:
        raise NotFoundError(
            "subscription-not-found", f"There is no subscription {name!r}. List them with: lakehouse notify list"
        )
    return found


def list_subscriptions(lake: Lake) -> list[Subscription]:
    """Return the subscriptions by name."""
    return sorted(lake.state().all(Subscription), key=lambda s: s.key)


def notify(lake: Lake, *, overdue: timedelta = OVERDUE) -> list[Delivery]:
    """Deliver what was not delivered yet, and return the attempts of this call.

    An event that failed is tried again after a minute, then after longer and longer pauses of up to six hours.

    Args:
        overdue: How long a milestone's version may be pending before that is an event.
    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    now = datetime.now(UTC)
    made = []
    for subscription, event, before in _undelivered(lake, now, overdue):
        if not before or _next(before) <= now:
            attempt = _deliver(subscription, event)
            made.append(attempt if attempt.ok else replace(attempt, next_at=_next([attempt, *before])))
    if made:
        rows = [{name: getattr(one, name) for name in SCHEMAS[_TABLE].names} for one in made]
        table = pa.Table.from_pylist(rows, schema=SCHEMAS[_TABLE])
        lake.facts.append(_TABLE, table, (f"{_TABLE}-{uuid4().hex}", 0))
    return made


def retries(lake: Lake) -> list[datetime]:
    """Return when each event that was not taken is tried again, soonest first."""
    return sorted(_next(before) for _, _, before in _undelivered(lake, datetime.now(UTC), OVERDUE) if before)


def list_deliveries(lake: Lake, name: str | None = None) -> list[Delivery]:
    """Return the attempts to deliver, newest first: of the subscriptions that the actor sees.

    Args:
        name: Only those of this subscription.
    """
    last = {before[0]: _next(before) for _, _, before in _undelivered(lake, datetime.now(UTC), OVERDUE) if before}
    found = [d for d in _attempts(lake) if name is None or d.subscription.casefold() == name.casefold()]
    return [replace(d, next_at=last.get(d)) for d in found]


def _attempts(lake: Lake) -> list[Delivery]:
    """Return the attempts on record that the actor sees, newest first."""
    facts, state = lake.facts.snapshot(_TABLE), lake.state()
    rows = [] if facts is None else facts.to_arrow().to_pylist()
    found = [
        Delivery(**row)
        for row in rows
        if not state.viewer or state.get(Subscription, row["subscription"].casefold()) is not None
    ]
    return sorted(found, key=lambda d: d.at, reverse=True)


def _undelivered(lake: Lake, now: datetime, overdue: timedelta) -> Iterator[tuple[Subscription, Event, list[Delivery]]]:
    """Iterate over what was not delivered yet: to whom, what, and the attempts so far, newest first."""
    subscriptions = list_subscriptions(lake)
    if not subscriptions:
        return
    told: dict[tuple[str, str], list[Delivery]] = {}
    for delivery in _attempts(lake):
        told.setdefault((delivery.subscription, delivery.event), []).append(delivery)
    state = lake.state()
    events = {  # nobody is told of what whoever subscribed may not read
        by: sorted(find_events(lake, visible(state, by), now, overdue), key=lambda e: e.at)
        for by in {s.created_by for s in subscriptions}
    }
    for subscription in subscriptions:
        for event in events[subscription.created_by]:
            before = told.get((subscription.name, event.event), [])
            if _concerns(subscription, event) and not any(delivery.ok for delivery in before):
                yield subscription, event, before


def _concerns(subscription: Subscription, event: Event) -> bool:
    return (
        event.at >= subscription.created_at
        and (not subscription.events or event.kind in subscription.events)
        and subscription.milestone in ("", event.milestone)
    )


def _next(before: Sequence[Delivery]) -> datetime:
    """Return when an event is tried again after these failed attempts, newest first."""
    few = len(before) < 8
    return before[0].at + (min(_FIRST_PAUSE * 4 ** (len(before) - 1), _LONGEST_PAUSE) if few else _LONGEST_PAUSE)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is a failure: the key and the data were meant for one receiver."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _deliver(subscription: Subscription, event: Event) -> Delivery:
    now, status, error = datetime.now(UTC), None, None
    try:
        if is_webhook(subscription.url):
            status = _post(subscription, event, now)
        else:
            error = tell(subscription, event)
    except urllib.error.HTTPError as refused:
        status, error = refused.code, f"HTTP {refused.code}"
    except InvalidInputError as wrong:
        error = wrong.message
    except OSError as failed:
        error = _reason(failed)
    return Delivery(subscription.name, event.event, now, ok=error is None, status=status, error=error)


def _reason(failed: OSError) -> str:
    """Return why nobody answered, without the URL: `ConnectionRefusedError: Connection refused`."""
    inner = failed.reason if isinstance(failed, urllib.error.URLError) else failed
    cause = inner if isinstance(inner, OSError) else failed
    return f"{type(cause).__name__}: {cause.strerror}" if cause.strerror else type(cause).__name__


def _post(subscription: Subscription, event: Event, now: datetime) -> int:
    """Post an event to a webhook, and return the status; what is no success is raised."""
    body = json.dumps({"type": event.kind, "timestamp": event.at.isoformat(), "data": event.data}).encode()
    headers = {"content-type": "application/json", "user-agent": "lakehouse"} | _signed(subscription, event, now, body)
    request = urllib.request.Request(subscription.url, body, headers, method="POST")
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S) as answer:
        status: int = answer.status
    return status


def _signed(subscription: Subscription, event: Event, now: datetime, body: bytes) -> dict[str, str]:
    """Return the headers that identify a message and prove who sent it."""
    identity = f"msg_{hashlib.sha256(event.event.encode()).hexdigest()[:32]}"
    stamp = str(int(now.timestamp()))
    headers = {"webhook-id": identity, "webhook-timestamp": stamp}
    if not subscription.secret_env:
        return headers
    secret = os.environ.get(subscription.secret_env)
    if not secret:
        raise InvalidInputError("secret-missing", f"${subscription.secret_env} is not set where events are sent from.")
    digest = hmac.digest(_key(secret), f"{identity}.{stamp}.".encode() + body, "sha256")
    return headers | {"webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise InvalidInputError("secret-invalid", "The signing key begins with whsec_ and is not base64.") from error


__all__ = [
    "Delivery",
    "list_deliveries",
    "list_subscriptions",
    "notify",
    "retries",
    "subscribe",
    "unsubscribe",
]
