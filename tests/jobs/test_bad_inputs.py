"""The shared manifest of bad inputs through the whole ingest: images, duplicates, archives and tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import catalog
import jobs
from jobs import TableOptions
from jobs.ingest.tabular import open_table
from lakehouse.errors import InvalidInputError, StateError
from lakehouse.lake import Lake

# Found by decoding, so it is the feature job that says it.
BY_FEATURES = {"image_uniform"}
DECLARED = {
    "latin1.csv": TableOptions(encoding="latin-1"),
    "utf16.csv": TableOptions(encoding="utf-16"),
    "no_header.csv": TableOptions(header=False),
    "semicolon_decimal_comma.csv": TableOptions(delimiter=";", decimal=","),
}


@pytest.fixture
def bad(shared_data: Path) -> Path:
    """The folder of bad inputs."""
    return shared_data / "bad-inputs"


def entries(bad: Path, kind: str) -> dict[str, dict[str, Any]]:
    """What the manifest expects of each file of a kind, by its path within the kind's folder."""
    files = json.loads((bad / "manifest.json").read_text("utf-8"))["files"]
    return {f["path"].split("/", 1)[1]: f["expect"] for f in files if f["kind"] == kind}


def bad_lines(bad: Path, path: str) -> list[int]:
    """The lines of a table that the manifest calls bad; the header is line 1."""
    files = json.loads((bad / "manifest.json").read_text("utf-8"))["files"]
    [lines] = [f["bad_lines"] for f in files if f["path"] == path]
    return list(lines)


def infer(path: Path, required: list[str]) -> pa.Schema:
    """The schema of a table as an ingest infers it, with columns that must not be null."""
    with open_table(path) as source:
        return pa.schema([field.with_nullable(field.name not in required) for field in source.schema])


def found(lake: Lake, run: str) -> dict[str, list[tuple[int | None, str]]]:
    """(line, code) of what a run recorded, by item or file name."""
    rows = lake.sql(f"select item, source, line, code from lake.rejects where run = '{run}' order by line").fetchall()
    said: dict[str, list[tuple[int | None, str]]] = {}
    for item, source, line, code in rows:
        said.setdefault(item or Path(source).name, []).append((line, code))
    return said


def test_images(lake: Lake, bad: Path) -> None:
    """Each image lands, lands with its warning, or is set aside with its reason, as the manifest says."""
    expected = entries(bad, "image")
    report = jobs.ingest(lake, bad / "images", dataset="images")
    said = found(lake, report.run)
    rows = {row["path"]: row for row in lake.read("images").to_arrow().to_pylist()}
    features = jobs.run_features(lake, "images")
    decoded = found(lake, features.run)
    assert report.items == len(rows) + report.rejected
    assert report.items == len(expected)
    for path, expect in expected.items():
        if expect["action"] == "quarantine":
            assert said[path] == [(None, expect["code"])]
            assert path not in rows
            continue
        metadata = json.loads(rows[path]["metadata"] or "{}")
        warned = [*metadata.get("findings", []), *(code for _, code in decoded.get(path, []))]
        if expect["action"] == "accept_with_warning":
            assert expect["code"] in warned, path
        else:
            assert not metadata.get("findings"), path
    assert json.loads(rows["exif_rotated.jpg"]["metadata"])["orientation"] == 6
    assert (rows["exif_rotated.jpg"]["width"], rows["exif_rotated.jpg"]["height"]) == (240, 320)
    assert features.processed == len(rows)
    assert BY_FEATURES.issubset(features.warnings)
    for asset in lake.read("images").assets(["path"]):
        assert asset.data == (bad / "images" / asset.row["path"]).read_bytes()


def test_duplicates(lake: Lake, bad: Path) -> None:
    """Exact copies share stored bytes under their own paths; near ones and false positives are kept as they are."""
    expected = entries(bad, "duplicate")
    report = jobs.ingest(lake, bad / "duplicates", dataset="images")
    rows = {row["path"]: row for row in lake.read("images").to_arrow().to_pylist()}
    copies = [path for path, expect in expected.items() if expect["action"] == "deduplicate"]
    assert rows.keys() == expected.keys()
    assert (report.duplicates, report.ingested) == (len(copies), len(expected) - len(copies))
    places = {path: (row["uri"], row["offset"]) for path, row in rows.items()}
    assert {places[path] for path in copies} == {places["original.jpg"]}
    assert len(set(places.values())) == len(expected) - len(copies)


def test_archives(lake: Lake, bad: Path, tmp_path: Path) -> None:
    """Nothing is taken of a bad archive, whose reason is kept; the good one beside it lands."""
    expected = entries(bad, "archive")
    report = jobs.ingest(lake, bad / "archives", dataset="images")
    said = found(lake, report.run)
    refused = {path: expect["code"] for path, expect in expected.items() if expect["action"] == "reject"}
    assert said == {path: [(None, code)] for path, code in refused.items()}
    landed = lake.read("images").to_arrow(["path"]).column("path").to_pylist()
    assert {path.split("/")[0] for path in landed} == {"ok_control.zip"}
    assert report.items == report.ingested + report.duplicates + len(refused)
    alone = jobs.ingest(lake, bad / "archives" / "symlink.zip", dataset="alone")
    assert (alone.items, alone.rejected) == (1, 1)


def _tables(bad: Path) -> list[tuple[str, dict[str, Any]]]:
    return sorted(entries(bad, "table").items())


def test_tables_that_are_read(lake: Lake, bad: Path) -> None:
    """Of each table that is taken, exactly the bad lines are set aside, with the manifest's code."""
    for name, expect in _tables(bad):
        if expect["action"] in ("reject", "reject_or_declare") or name.startswith("schema_v2"):
            continue
        # What a foreign key refers to is another table: a check knows it, see `test_foreign_keys`.
        code = "ok" if expect["code"] == "foreign_key" else expect["code"]
        key = ["CustomerId"] if code == "primary_key" else []
        report = jobs.ingest(lake, bad / "tables" / name, dataset=f"tables.{Path(name).stem}", key=key)
        said = found(lake, report.run).get(name, [])
        if code != "foreign_key" and "bad_lines" in expect and code != "ok":
            assert [line for line, _ in said if line] == expect["bad_lines"], name
        assert (code in {c for _, c in said} or code == "no_rows" or code in report.warnings) != (code == "ok"), name
        assert report.ingested == report.items - report.rejected == lake.read(report.dataset).num_rows


def test_tables_that_are_refused(lake: Lake, bad: Path) -> None:
    """A table that can't be trusted as a whole is refused with the manifest's code, or read once it is declared."""
    for name, expect in _tables(bad):
        if expect["action"] not in ("reject", "reject_or_declare") or name.startswith("schema_v2"):
            continue
        with pytest.raises(InvalidInputError) as error:
            jobs.ingest(lake, bad / "tables" / name, dataset="t")
        assert error.value.kind.replace("-", "_") == expect["code"]
        if expect["action"] == "reject_or_declare":
            declared = jobs.ingest(lake, bad / "tables" / name, dataset=Path(name).stem, options=DECLARED[name])
            assert declared.ingested > 0
            assert declared.rejected == 0


def test_second_deliveries(lake: Lake, bad: Path) -> None:
    """A delivery of another schema is refused by its code, and an added column taken when that is allowed."""
    tables = bad / "tables"
    jobs.ingest(lake, tables / "schema_v1.csv", dataset="albums")
    for name, expect in _tables(bad):
        if name.startswith("schema_v2"):
            with pytest.raises(InvalidInputError) as error:
                jobs.ingest(lake, tables / name, dataset="albums")
            assert error.value.kind.replace("-", "_") == expect["code"]
    assert lake.read("albums").num_rows == 5
    jobs.ingest(lake, tables / "schema_v2_added_column.csv", dataset="albums", evolve=True)
    assert lake.read("albums").num_rows == 11


def test_foreign_keys(lake: Lake, bad: Path) -> None:
    """The schema keeps out the line without a key, the check keeps the orphan from being published; the rest is."""
    path = bad / "tables" / "orphan_foreign_key.csv"
    lines = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    orphan, empty = (lines[line - 2]["InvoiceId"] for line in bad_lines(bad, "tables/orphan_foreign_key.csv"))
    customers = bad.parent / "tables-chinook" / "2025-10" / "Customer.csv"
    jobs.ingest(lake, customers, dataset="shop.customers", key=["CustomerId"])
    catalog.publish(lake, "shop.customers", data_tag="FINAL")
    catalog.create_dataset(lake, "shop.invoices", infer(path, required=["CustomerId"]), key=["InvoiceId"])
    report = jobs.ingest(lake, path, dataset="shop.invoices")
    assert found(lake, report.run)[path.name] == [(15, "not_null")]
    catalog.add_check(
        lake, "shop.invoices", "foreign_key", columns=["CustomerId"], parameters={"to": "shop.customers@latest"}
    )
    with pytest.raises(StateError) as refused:
        catalog.publish(lake, "shop.invoices", data_tag="FINAL")
    assert (refused.value.kind, refused.value.context["checks"]) == ("check-failed", {"foreign_key_CustomerId": 1})
    assert "9999" not in refused.value.message
    [result] = catalog.check_results(lake, "shop.invoices")
    assert [str(json.loads(row)["InvoiceId"]) for row in result.samples] == [orphan]
    lake.table("shop.invoices").delete(f"InvoiceId = {orphan}")
    made = catalog.publish(lake, "shop.invoices", data_tag="FINAL")
    published = lake.read(f"shop.invoices@v{made.number}").to_arrow(["InvoiceId"]).column(0).to_pylist()
    assert [str(i) for i in published] == [row["InvoiceId"] for row in lines if row["InvoiceId"] not in (orphan, empty)]


def test_the_null_that_a_check_finds(lake: Lake, bad: Path) -> None:
    """Where the schema allows nulls, checks name both bad lines; as a link, the orphan keeps a milestone waiting."""
    expected = bad_lines(bad, "tables/orphan_foreign_key.csv")
    customers = bad.parent / "tables-chinook" / "2025-10" / "Customer.csv"
    jobs.ingest(lake, customers, dataset="customers", key=["CustomerId"])
    jobs.ingest(lake, bad / "tables" / "orphan_foreign_key.csv", dataset="invoices", key=["InvoiceId"])
    catalog.publish(lake, "customers")
    catalog.publish(lake, "invoices")
    catalog.define_milestone(
        lake, "m", ["customers", "invoices"], links=["invoices.CustomerId -> customers.CustomerId"]
    )
    [orphaned] = catalog.milestone_orphans(lake, "m")
    assert (orphaned.orphans, orphaned.sample) == (1, [{"CustomerId": 9999, "rows": 1}])
    for kind, more in (("foreign_key", {"to": "customers"}), ("not_null", {})):
        catalog.add_check(lake, "invoices", kind, columns=["CustomerId"], parameters=more)
    samples = [json.loads(row)["InvoiceId"] for r in catalog.run_checks(lake, "invoices@v1") for row in r.samples]
    assert sorted(i + 1 for i in samples) == expected  # InvoiceId 1 is in line 2
