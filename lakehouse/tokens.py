"""Tokens: secrets that prove who acts. A token is shown once, when it is made; the ledger knows a digest of it."""

from __future__ import annotations

import hmac
import re
import secrets
from datetime import UTC, datetime
from hashlib import sha256

from lakehouse.decisions import Principal, Token
from lakehouse.errors import AccessDeniedError
from lakehouse.state import State

_FORM = re.compile(r"lh_(?P<id>[0-9a-f]{12})_(?P<secret>[\w-]{43})")


def new_token() -> tuple[str, str, str]:
    """Return a new token's id, its text, and the digest that is kept of it."""
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return token_id, f"lh_{token_id}_{secret}", _digest(secret)


def holder(state: State, text: str) -> tuple[str, datetime]:
    """Return the name of the principal whom a token stands for, and when the token expires.

    Args:
        state: The whole state, whoever asks.
    Raises:
        AccessDeniedError: it is none of this lakehouse, or its principal was removed (token-invalid); token-expired,
            token-revoked.
    """
    found = _FORM.fullmatch(text.strip())
    token = state.get(Token, found["id"]) if found else None
    # Compared in constant time, so that nobody finds out a digest piece by piece.
    if found is None or token is None or not hmac.compare_digest(token.digest, _digest(found["secret"])):
        raise AccessDeniedError("token-invalid", "The token is none of this lakehouse. Ask an admin for a new one.")
    principal = state.get(Principal, token.principal.casefold())
    if token.revoked_at is not None or principal is None:
        raise AccessDeniedError("token-revoked", f"The token {token.token_id} was revoked. {_again(token)}")
    if token.expires_at <= datetime.now(UTC):
        raise AccessDeniedError(
            "token-expired",
            f"The token {token.token_id} expired at {token.expires_at:%Y-%m-%d %H:%M} UTC. {_again(token)}",
        )
    return principal.name, token.expires_at


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _again(token: Token) -> str:
    return f"Make a new one with: lakehouse token create {token.principal}"


__all__ = ["holder", "new_token"]
