"""Metrics: what is added up from version to version is what measuring everything gives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import catalog
from lakehouse import metrics
from lakehouse.lake import Lake
from lakehouse.metrics import Metadata, combine, measure
from tests.support.lakes import make_lake, make_table

CHANNELS = [f"{m}_{c}" for m in ("mean", "std") for c in "rgb"]
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("pixels", pa.int64()),
        *((name, pa.float64()) for name in CHANNELS),
    ]
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A fresh lake in a folder."""
    return make_lake(str(tmp_path / "lake"))


def image(number: int, split: str | None, label: str | None, pixels: int | None = 4) -> dict[str, Any]:
    """Return the features of one image; without pixels they are null, as for one that did not decode."""
    values = dict.fromkeys(CHANNELS, None if pixels is None else float(number % 7))
    return {"id": number, "split": split, "label": label, "pixels": pixels, **values}


def rows(*images: dict[str, Any]) -> pa.Table:
    """Return images as a table."""
    return pa.Table.from_pylist(list(images), schema=SCHEMA)


def full(lake: Lake, reference: str) -> Metadata:
    """Return the metrics of a state, measured from all its rows."""
    snapshot = lake.read(reference)
    return Metadata.from_rows(measure(snapshot), snapshot.num_rows)


def assert_same(found: Metadata, expected: Metadata) -> None:
    """Compare metrics; floats may differ by what adding in another order makes."""
    assert (found.rows, set(found.splits)) == (expected.rows, set(expected.splits))
    for split, own in found.splits.items():
        other = expected.splits[split]
        assert (own.rows, own.classes) == (other.rows, other.classes)
        for a, b in ((own.pixel_mean, other.pixel_mean), (own.pixel_std, other.pixel_std)):
            assert a == (None if b is None else pytest.approx(b, abs=1e-6))


def test_values(lake: Lake) -> None:
    """Mean and deviation are those of all pixels, weighted by the number of pixels of each image."""
    table = make_table(lake, "t", SCHEMA, key=["id"])
    one, three = image(1, "train", "cat", 1), image(2, "train", "dog", 3)
    one |= dict.fromkeys(CHANNELS[:3], 10.0) | dict.fromkeys(CHANNELS[3:], 0.0)
    three |= dict.fromkeys(CHANNELS[:3], 50.0) | dict.fromkeys(CHANNELS[3:], 2.0)
    table.append(rows(one, three, image(3, None, None, None)))
    catalog.publish(lake, "t")
    found = lake.read("t@v1").metadata
    assert found.rows == 3
    assert found.splits["train"].classes == {"cat": 1, "dog": 1}
    assert found.splits["train"].pixel_mean == pytest.approx((40.0,) * 3)
    variance = (1 * 10**2 + 3 * (50**2 + 2**2)) / 4 - 40**2
    assert found.splits["train"].pixel_std == pytest.approx((math.sqrt(variance),) * 3)
    assert (found.splits[""].rows, found.splits[""].classes, found.splits[""].pixel_mean) == (1, {}, None)


def test_without_images_labels_or_splits(lake: Lake) -> None:
    """A plain table has its row count; an empty one has none and can be published like any other."""
    table = make_table(lake, "t", pa.schema([("id", pa.int64())]))
    catalog.publish(lake, "t")
    assert lake.read("t@v1").metadata == Metadata(rows=0, splits={})
    table.append(pa.table({"id": [1, 2]}))
    catalog.publish(lake, "t")
    found = lake.read("t@v2").metadata
    assert (found.rows, found.splits[""].rows, found.splits[""].classes) == (2, 2, {})


def test_only_what_changed_is_measured(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publication measures the files that came and went, not those that stayed."""
    table = make_table(lake, "t", SCHEMA, key=["id"])
    for number in range(5):
        table.append(rows(image(number, "train", "cat")))
    catalog.publish(lake, "t")
    looked: list[int] = []
    original = metrics.measure

    def watched(snapshot: Any) -> pa.Table:
        looked.append(len(snapshot.file_list))
        return original(snapshot)

    monkeypatch.setattr(catalog.versions, "measure", watched)
    table.append(rows(image(7, "test", "dog")))
    catalog.publish(lake, "t")
    assert looked == [1, 0]
    assert_same(lake.read("t@v2").metadata, full(lake, "t@v2"))


def test_too_many_classes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a column has too many values to be a class, no version tells a part of them as if it were all."""
    monkeypatch.setattr(metrics, "MAX_CLASSES", 3)
    table = make_table(lake, "t", SCHEMA, key=["id"])
    table.append(rows(*(image(n, "train", f"l{n}") for n in range(3))))
    catalog.publish(lake, "t")
    assert len(lake.read("t@v1").metadata.splits["train"].classes) == 3
    table.append(rows(image(3, "train", "l3")))
    catalog.publish(lake, "t")
    table.append(rows(image(4, "train", "l0")))
    catalog.publish(lake, "t")
    for number in (2, 3):
        assert lake.read(f"t@v{number}").metadata.splits["train"].classes == {}
    table.overwrite(rows(image(5, "train", "l0")))
    catalog.publish(lake, "t")
    assert lake.read("t@v4").metadata.splits["train"].classes == {"l0": 1}


def test_added_label_column(lake: Lake) -> None:
    """A version whose schema changed is measured whole."""
    table = make_table(lake, "t", pa.schema([("id", pa.int64())]), key=["id"])
    table.append(pa.table({"id": [1]}))
    catalog.publish(lake, "t")
    table.append(pa.table({"id": [2], "label": ["x"], "split": ["s"]}), evolve=True)
    catalog.publish(lake, "t")
    assert_same(lake.read("t@v2").metadata, full(lake, "t@v2"))


def test_combine_of_nothing() -> None:
    """No terms, and terms that cancel out, leave an empty measurement."""
    assert combine([]).num_rows == 0


ITEM = st.tuples(
    st.integers(0, 6),
    st.sampled_from(["train", "test", None]),
    st.sampled_from("ab") | st.none(),
    st.none() | st.just(4),
)
STEPS = st.lists(st.tuples(st.sampled_from(["merge", "delete", "overwrite"]), st.lists(ITEM, max_size=4)), max_size=4)


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_incremental_is_full(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[Any]]]) -> None:
    """After any changes the stored metrics of every version are those that measuring all its rows gives."""
    lake = make_lake(str(tmp_path_factory.mktemp("metrics")))
    table = make_table(lake, "t", SCHEMA, key=["id"])
    for kind, items in steps:
        data = rows(*{item[0]: image(*item) for item in items}.values())
        if kind == "delete":
            table.delete(f"id in ({', '.join(str(item[0]) for item in items) or -1})")
        else:
            getattr(table, kind)(data)
        version = catalog.publish(lake, "t")
        assert_same(lake.read(f"t@v{version.number}").metadata, full(lake, f"t@v{version.number}"))
