"""Images that don't decode. Decoding needs Pillow, so the package `jobs` brings the decoder along when it is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from catalog.check_rows import names, select, shown
from catalog.check_rules import Asked, Rows, UnfitError
from lakehouse.blobs import Asset, read_assets
from lakehouse.errors import InvalidInputError
from lakehouse.snapshots import Snapshot

Decoder = Callable[[Sequence[bytes]], list[str | None]]
"""Takes encoded images and returns for each why it does not decode: a code, or None."""

_LOCATION = ("uri", "offset", "length")
_BLOCK_IMAGES, _BLOCK_BYTES = 64, 64 << 20
"""So many images, or so many bytes of them, are decoded together; one image at least."""
_PARALLEL = 16
_decoder: Decoder | None = None


def use_decoder(decoder: Decoder) -> None:
    """Decode images with this from now on; `jobs` calls it when it is imported."""
    global _decoder
    _decoder = decoder


def undecodable(asked: Asked, part: Snapshot) -> Rows:
    """Rows whose image does not decode; rows without a location pass.

    Raises:
        UnfitError: the rows point at no assets.
        InvalidInputError: there is no decoder (extra-missing).
        NotFoundError, FormatError, StorageError: as `read_assets`.
    """
    refuse_assetless(part)
    if _decoder is None:
        raise InvalidInputError(
            "extra-missing",
            "Decoding images needs the package 'jobs'. Install it with: pip install 'lakehouse[jobs]', and import jobs.",
            module="jobs",
            extra="jobs",
        )
    return _failing(part, asked.known, _decoder)


def refuse_assetless(part: Snapshot) -> None:
    """Refuse a state without the columns that say where assets are.

    Raises:
        UnfitError: it lacks one.
    """
    missing = [name for name in _LOCATION if name not in part.schema.names]
    if missing:
        raise UnfitError(f"There is no column {missing[0]!r}: the rows point at no assets.")


def _failing(part: Snapshot, known: Snapshot | None, decoder: Decoder) -> Rows:
    wanted = list(dict.fromkeys([*shown(part, ["path"] if "path" in part.schema.names else []), *_LOCATION]))
    located = select(part, wanted, f"select {names(wanted)} from t where uri is not null", known)
    assets = read_assets(part.storage, located, wanted, _PARALLEL, namespace=part.dataset.namespace)
    block: list[Asset] = []
    for asset in assets:
        block.append(asset)
        if len(block) >= _BLOCK_IMAGES or sum(len(a.data) for a in block) >= _BLOCK_BYTES:
            yield from _judged(block, decoder)
            block.clear()
    yield from _judged(block, decoder)


def _judged(block: Sequence[Asset], decoder: Decoder) -> Rows:
    codes = decoder([asset.data for asset in block])
    rows = [asset.row | {"code": code} for asset, code in zip(block, codes, strict=True) if code is not None]
    if rows:
        yield pa.RecordBatch.from_pylist(rows)


__all__ = ["Decoder", "refuse_assetless", "undecodable", "use_decoder"]
