"""Legal holds: while one is set, nothing of the dataset expires, is cleaned up or erased. Writing and reading go on."""

from __future__ import annotations

from datetime import UTC, datetime

from lakehouse.decisions import Decision, Hold
from lakehouse.errors import InvalidInputError, NotFoundError, StateError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.pins import held
from lakehouse.references import parse_name
from lakehouse.resolution import find_dataset, find_name


def set_hold(lake: Lake, name: str, reason: str) -> Hold:
    """Put a dataset under a legal hold; the same once more changes nothing.

    Args:
        name: `[namespace.]name`.
        reason: For people: why, and who asked for it. Never a row's value.
    Raises:
        InvalidInputError: no reason (reason-missing).
        NotFoundError: dataset-not-found, dataset-deleted.
        StateError: it is under a hold for another reason (hold-exists); a release would end both.
    """
    full = ".".join(parse_name(name))
    if not reason.strip():
        raise InvalidInputError(
            "reason-missing", f"A legal hold on {full} needs a reason, for those who find it later."
        )

    def rule(state: State) -> tuple[Hold, list[Decision]]:
        dataset = find_dataset(state, full)
        known = held(state, dataset.dataset_id)
        if known is not None and known.reason == reason.strip():
            return known, []
        if known is not None:
            raise StateError(
                "hold-exists",
                f"{dataset.full_name} is under a legal hold already: {known.reason.rstrip('.')}. Release that first, with: "
                f"lakehouse hold release {dataset.full_name} --yes; then set one hold that names both reasons.",
                dataset=dataset.full_name,
            )
        hold = Hold(
            dataset_id=dataset.dataset_id,
            full_name=dataset.full_name,
            reason=reason.strip(),
            created_at=datetime.now(UTC),
            created_by=lake.actor,
        )
        return hold, [Decision.put("hold.set", hold)]

    return lake.ledger.decide(rule, message=reason.strip()).result


def release_hold(lake: Lake, name: str, *, message: str | None = None) -> Hold:
    """End the legal hold on a dataset.

    Of a name that was deleted and made again, the hold on the dataset that it stands for now ends first, then, called
    again, those on earlier ones.

    Raises:
        NotFoundError: the name was never used (dataset-not-found), or nothing of it is under a hold (hold-not-found).
    """

    def rule(state: State) -> tuple[Hold, list[Decision]]:
        hold = _find(state, name)
        return hold, [Decision.remove("hold.release", hold)]

    return lake.ledger.decide(rule, message=message).result


def list_holds(lake: Lake) -> list[Hold]:
    """Return the legal holds by dataset."""
    return sorted(lake.state().all(Hold), key=lambda h: (h.full_name.casefold(), h.created_at))


def _find(state: State, name: str) -> Hold:
    known = find_name(state, ".".join(parse_name(name)))
    found = [h for h in state.all(Hold) if h.full_name.casefold() == known.key]
    if not found:
        raise NotFoundError(
            "hold-not-found",
            f"{known.full_name} is under no legal hold. List them with: lakehouse hold list",
            dataset=known.full_name,
        )
    return max(found, key=lambda h: (h.dataset_id == known.dataset_id, h.created_at))
