"""Tokens: made, listed and revoked. Their text is shown once; `lakehouse.connect(token=...)` takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from catalog.access import find_principal
from lakehouse.decisions import Decision, Token
from lakehouse.errors import AccessDeniedError, InvalidInputError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.spans import parse_span
from lakehouse.tokens import new_token

EXPIRES = "90d"
"""How long a token holds unless something else is asked for."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made."""

    token: Token
    text: str = field(repr=False)
    """The secret; it is known nowhere else."""


def create_token(
    lake: Lake, principal: str | None = None, *, expires: str = EXPIRES, description: str = ""
) -> NewToken:
    """Make a token that proves who acts; people make their own, admins of the lakehouse make anybody's.

    Who acts by a token himself can't make one of his own that outlives it: one that leaked ends when it says.

    Args:
        principal: Whom it stands for; None means the actor.
        expires: Span from now: `90d`, `12h`, 4w.
        description: What it is for.
    Raises:
        NotFoundError: principal-not-found.
        InvalidInputError: no span of time, or one of nothing (span-invalid).
        AccessDeniedError: access-denied; it would outlive the token that the actor acts by (token-outlives).
    """
    now, span = datetime.now(UTC), parse_span(expires, "expires")
    if not span:
        raise InvalidInputError("span-invalid", "A token that expires at once is of no use. Give a span such as 90d.")
    if find_principal(lake.state(), principal or lake.actor).kind == "service":
        lake.check("token.create")  # its own ones, too
    token_id, text, digest = new_token()

    def rule(state: State) -> tuple[Token, list[Decision]]:
        found = find_principal(state, principal or lake.actor)
        if found.key == lake.actor.casefold() and lake.until is not None and now + span > lake.until:
            raise AccessDeniedError(
                "token-outlives",
                f"You act by a token that expires at {lake.until:%Y-%m-%d %H:%M} UTC, and can't make one that outlives it. "
                "Give a shorter --expires, or make it without $LAKEHOUSE_TOKEN.",
            )
        value = Token(
            token_id=token_id,
            principal=found.name,
            digest=digest,
            description=description,
            created_at=now,
            created_by=lake.actor,
            expires_at=now + span,
        )
        return value, [Decision.put("token.create", value)]

    return NewToken(lake.ledger.decide(rule).result, text)


def revoke_token(lake: Lake, token_id: str) -> Token:
    """End a token now; one that was revoked stays as it is.

    Raises:
        NotFoundError: there is none of that id (token-not-found).
        AccessDeniedError: access-denied.
    """

    def rule(state: State) -> tuple[Token, list[Decision]]:
        found = find_token(state, token_id)
        if found.revoked_at is not None:
            return found, []
        value = replace(found, revoked_at=datetime.now(UTC))
        return value, [Decision.put("token.revoke", value)]

    return lake.ledger.decide(rule).result


def find_token(state: State, token_id: str) -> Token:
    """Return a token by its id, or by its text.

    Raises:
        NotFoundError: there is none of that id (token-not-found).
    """
    found = state.get(Token, token_id.removeprefix("lh_").partition("_")[0])
    if found is None:
        # What was given may be a secret, so it is not repeated.
        raise NotFoundError("token-not-found", "There is no token of that id. List them with: lakehouse token list")
    return found


def list_tokens(lake: Lake) -> Sequence[Token]:
    """Return the tokens, the newest last: one's own, and for an admin of the lakehouse all."""
    return sorted(lake.state().all(Token), key=lambda t: t.created_at)


__all__ = ["EXPIRES", "NewToken", "create_token", "find_token", "list_tokens", "revoke_token"]
