"""Channels beyond webhooks, such as mail and chats: what Apprise delivers to, by its URLs.

Source: Apprise (https://appriseit.com), its URLs: https://appriseit.com/services/
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from catalog.events import KINDS, Event
from lakehouse.decisions import Subscription
from lakehouse.errors import InvalidInputError, missing_extra, suggest


def is_webhook(url: str) -> bool:
    """Whether events are posted to a URL by ourselves, and not by a channel of Apprise."""
    return urlsplit(url).scheme in ("http", "https")


def check_channel(name: str, url: str, secret_env: str) -> None:
    """Refuse a URL that Apprise does not know, or that holds a secret: the ledger shows it to everybody.

    Args:
        name: Of the subscription.
        secret_env: Environment variable that holds the whole URL; then `url` is only how it begins, such as `slack://`.
    Raises:
        InvalidInputError: url-invalid, secret-in-url; Apprise is not installed (extra-missing).
    """
    scheme, colon, rest = url.partition("://")
    schemes = _schemes() if colon else []
    if scheme not in schemes:
        raise InvalidInputError(
            "url-invalid",
            f"The URL of {name!r} begins with no known channel.{suggest(scheme, schemes)} Give an http or https URL, or one of "
            "https://appriseit.com/services/",
        )
    if secret_env:
        if rest:
            raise InvalidInputError(
                "url-invalid", f"${secret_env} holds the whole URL of {name!r}. Give {scheme}:// and nothing more."
            )
        return
    parts, channel = urlsplit(url), _channel(url)
    if channel is not None and not (parts.username or parts.password or parts.query or _is_masked(channel)):
        return
    # A URL without its secret is incomplete to Apprise, so one that it refuses is told the same.
    raise InvalidInputError(
        "secret-in-url",
        f"The URL of {name!r} is incomplete, or holds a secret or options. Keep it where events are sent from, and name "
        f"the environment variable: lakehouse notify add {name} {scheme}:// --secret-env VARIABLE",
    )


def tell(subscription: Subscription, event: Event) -> str | None:
    """Deliver an event to a channel, and return why it failed; None when it was taken.

    Raises:
        InvalidInputError: the variable with the URL is not set (secret-missing) or holds no such URL (secret-invalid);
            extra-missing.
    """
    import yaml

    channel = _channel(_whole_url(subscription))
    if channel is None:
        raise InvalidInputError(
            "secret-invalid", f"${subscription.secret_env} holds no complete {subscription.url} URL."
        )
    title = f"{event.data['reference']}: {KINDS[event.kind]}"
    body = yaml.safe_dump({"event": event.kind, **event.data}, sort_keys=False, allow_unicode=True)
    return None if channel.notify(body=body, title=title) else "the channel did not take it"


def _whole_url(subscription: Subscription) -> str:
    if not subscription.secret_env:
        return subscription.url
    found = os.environ.get(subscription.secret_env)
    if not found:
        raise InvalidInputError("secret-missing", f"${subscription.secret_env} is not set where events are sent from.")
    if not found.startswith(subscription.url):
        raise InvalidInputError("secret-invalid", f"${subscription.secret_env} holds no {subscription.url} URL.")
    return found


def _schemes() -> list[str]:
    try:
        from apprise.manager_plugins import NotificationManager
    except ModuleNotFoundError as error:
        raise missing_extra("apprise", "notify") from error
    manager: Any = NotificationManager  # it has no types
    return list(manager().schemas())


def _channel(url: str) -> Any:
    """Return what Apprise makes of a URL; None when it is incomplete."""
    try:
        from apprise import Apprise
    except ModuleNotFoundError as error:
        raise missing_extra("apprise", "notify") from error
    return Apprise.instantiate(url)


def _is_masked(channel: Any) -> bool:
    """Whether Apprise would hide a part of the URL where it is shown."""
    return bool(channel.url(privacy=True) != channel.url(privacy=False))


__all__ = ["check_channel", "is_webhook", "tell"]
