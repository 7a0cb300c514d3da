"""Assets: found by what people know of them - path, id, sha256 or URL - and read with their hash checked."""

from __future__ import annotations

import re
from typing import Any

from lakehouse.blobs import Asset, read_one, verify_sha256
from lakehouse.errors import InvalidInputError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.snapshots import Snapshot


def find_assets(lake: Lake, reference: str, word: str) -> list[dict[str, Any]]:
    """Return the rows of one asset; more than one when several paths hold the same bytes or come from one URL.

    Files are skipped by their statistics and bloom filters, so the data is not scanned.

    Args:
        reference: A state of an asset dataset.
        word: A path, an asset id (32 hex digits), a sha256 (64) or a source URL; a path wins over an id.
    Raises:
        InvalidInputError: the dataset holds no assets (assets-missing).
        NotFoundError: nothing matches (asset-not-found), or what the reference names does not exist.
    """
    return _find(lake.read(reference), word)


def read_asset(lake: Lake, reference: str, word: str) -> Asset:
    """Return one asset's row and its bytes, compared with their sha256; errors as `find_assets`.

    Raises:
        FormatError: the bytes are not what was stored (asset-corrupt, asset-truncated).
    """
    snapshot = lake.read(reference)
    row = _find(snapshot, word)[0]
    place = row["uri"], row["offset"], row["length"]
    data = read_one(lake.storage, *place, namespace=snapshot.dataset.namespace)
    verify_sha256(data, row["sha256"], str(row["path"]))
    return Asset(row, data)


def _find(snapshot: Snapshot, word: str) -> list[dict[str, Any]]:
    known = set(snapshot.schema.names)
    missing = {"path", "uri", "offset", "length", "sha256"} - known
    if missing:
        raise InvalidInputError(
            "assets-missing", f"{snapshot.reference} has no column {min(missing)!r}: its rows point at no assets."
        )
    for column, value in _candidates(word):
        if column in known and (rows := snapshot.find(**{column: value})):
            return rows
    raise NotFoundError(
        "asset-not-found",
        f"{snapshot.reference} has no asset {word!r}. Name it by its path, id, sha256 or source URL.",
        reference=snapshot.reference,
    )


def _candidates(word: str) -> list[tuple[str, str]]:
    """Return the columns that may hold the word, the likeliest first."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", word):
        return [("sha256", word.lower()), ("path", word)]
    if re.fullmatch(r"[0-9a-fA-F]{32}", word):
        return [("path", word), ("asset_id", word.lower())]
    if "://" in word:
        return [("source_url", word), ("uri", word), ("path", word)]
    return [("path", word), ("asset_id", word)]
