"""Images that do not decode: found by reading the bytes, each row once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

import catalog
import jobs
import lakehouse
from catalog import check_images
from jobs.features.image import decode_errors
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake
from tests.support.lakes import make_lake, make_table


def image(shade: int) -> bytes:
    """Return a small PNG."""
    target = BytesIO()
    Image.new("L", (8, 8), shade).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the decoder was given."""
    sizes: list[int] = []

    def watched(blobs: Sequence[bytes]) -> list[str | None]:
        sizes.append(len(blobs))
        return decode_errors(blobs)

    monkeypatch.setattr(check_images, "_decoder", watched)
    return sizes


def ingested(lake: Lake, folder: Path, *shades: int) -> None:
    """Take images into `tiles`, from a folder that gets more of them."""
    folder.mkdir(exist_ok=True)
    for shade in shades:
        (folder / f"{shade}.png").write_bytes(image(shade))
    jobs.ingest(lake, folder, dataset="tiles")


def test_each_image_is_decoded_once(root_uri: str, tmp_path: Path, decoded: list[int]) -> None:
    """On every backend only images that came are decoded: rows that were only rewritten, by optimize too, are left out."""
    lake = make_lake(root_uri)
    ingested(lake, tmp_path / "in", 1, 2, 3)
    catalog.add_check(lake, "tiles", "image_decodes")
    assert [r.ok for r in catalog.run_checks(lake, "tiles")] == [True]
    ingested(lake, tmp_path / "in", 4)
    assert [(r.ok, r.rows, r.method) for r in catalog.run_checks(lake, "tiles")] == [(True, 4, "changed")]
    lake.table("tiles").delete("path = '1.png'")
    assert [(r.ok, r.rows, r.method) for r in catalog.run_checks(lake, "tiles")] == [(True, 3, "changed")]
    assert lakehouse.optimize(lake, "tiles").commits == 1
    assert [(r.ok, r.method) for r in catalog.run_checks(lake, "tiles")] == [(True, "changed")]
    assert sum(decoded) == 4


def test_a_damaged_image_stays_known(lake: Lake, tmp_path: Path, decoded: list[int]) -> None:
    """A failing row that is rewritten with others still fails, without being decoded again; deleted, it is gone."""
    ingested(lake, tmp_path / "in", 1, 2, 3)
    row = next(r for r in lake.read("tiles").to_arrow().to_pylist() if r["path"] == "2.png")
    pack = Path(lake.root) / row["uri"]
    pack.chmod(0o644)
    with pack.open("r+b") as data:
        data.seek(row["offset"])
        data.write(b"broken!!")
    catalog.add_check(lake, "tiles", "image_decodes")
    (found,) = catalog.run_checks(lake, "tiles")
    assert found.failures == 1
    assert json.loads(found.samples[0]).items() >= {"path": "2.png", "code": "not_an_image"}.items()
    lake.table("tiles").delete("path = '1.png'")
    (again,) = catalog.run_checks(lake, "tiles")
    assert (again.failures, again.samples, again.method) == (1, found.samples, "changed")
    lake.table("tiles").delete("path = '2.png'")
    assert [r.failures for r in catalog.run_checks(lake, "tiles")] == [0]


def test_rows_without_assets(lake: Lake) -> None:
    """The check is refused where there are no assets, and a state from before there were any fails with a finding."""
    table = make_table(lake, "plain", pa.schema([("id", pa.int64())]))
    with pytest.raises(InvalidInputError, match="There is no column 'uri': the rows point at no assets"):
        catalog.add_check(lake, "plain", "image_decodes")
    table.append(pa.table({"id": [1], "uri": [""], "offset": [0], "length": [0]}), evolve=True)
    catalog.add_check(lake, "plain", "image_decodes")
    (found,) = catalog.run_checks(lake, "plain@#0")
    assert found.finding == "There is no column 'uri': the rows point at no assets."
