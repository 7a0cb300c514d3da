"""Milestones over real linked tables in their published revisions, with their real keys."""

from __future__ import annotations

import json
from pathlib import Path

import catalog
import jobs
import lakehouse
from jobs import TableOptions
from lakehouse.decisions import MilestoneVersion
from tests.jobs.test_real_tables import FLIGHTS_KEYS


def ingest(lake: lakehouse.Lake, path: Path, name: str, key: list[str], nulls: tuple[str, ...] = ("",)) -> None:
    """Make a dataset equal to a CSV file and publish it as FINAL."""
    jobs.ingest(
        lake, path, dataset=name, key=key, mode="overwrite", evolve=True, options=TableOptions(null_tokens=nulls)
    )
    catalog.publish(lake, name, data_tag="FINAL")


def versions(lake: lakehouse.Lake, name: str) -> list[MilestoneVersion]:
    """Return the published versions of the only milestone, oldest first."""
    found = sorted(lake.state().all(MilestoneVersion), key=lambda v: v.number)
    assert {v.full_name for v in found} == {name}
    return found


def test_chinook(shared_data: Path, tmp_path: Path) -> None:
    """Eleven tables with eleven foreign keys become version 1; each revised table a version that reuses the others."""
    lake, folder = lakehouse.init(tmp_path / "lake"), shared_data / "tables-chinook"
    tables = json.loads((folder / "v1.4.5" / "schema.json").read_text())
    links = [
        f"chinook.{table}.{key['column']} -> chinook.{key['ref_table']}.{key['ref_column']}"
        for table, about in tables.items()
        for key in about["foreign_keys"]
    ]
    for table, about in tables.items():
        ingest(lake, folder / "v1.4.5" / f"{table}.csv", f"chinook.{table}", about["primary_key"])
    catalog.define_milestone(lake, "chinook.all", [f"chinook.{t}" for t in tables], data_tags=["FINAL"], links=links)
    [first] = versions(lake, "chinook.all")
    assert (len(first.members), len(first.proofs), len(links)) == (11, 11, 11)
    for table in ("Invoice", "Track"):
        ingest(lake, folder / "2025-10" / f"{table}.csv", f"chinook.{table}", tables[table]["primary_key"])
    first, second, third = versions(lake, "chinook.all")
    changed = [
        {m.full_name for m in set(new.members) - set(old.members)} for old, new in ((first, second), (second, third))
    ]
    assert changed == [{"chinook.Invoice"}, {"chinook.Track"}]
    touching = [p for p in third.proofs if p not in second.proofs]
    assert {p.link.split("(")[0] for p in touching} == {"chinook.InvoiceLine", "chinook.PlaylistTrack", "chinook.Track"}
    assert lake.sql("select count(*) from Milestone where IS_FINAL = 'Y'").fetchall() == [(3,)]
    old, new = (lake.milestone(f"chinook.all/v{n}").sql("select max(InvoiceDate) from chinook.Invoice") for n in (1, 2))
    assert old.fetchall() < new.fetchall()
    lake.table("chinook.Artist").delete("ArtistId = 1")
    catalog.publish(lake, "chinook.Artist", data_tag="FINAL")
    pending = catalog.milestone_status(lake, "chinook.all").pending
    assert pending is not None
    [waiting] = pending.waiting
    assert (waiting.kind, waiting.dataset) == ("link-orphans", "chinook.Album")
    assert "2 of 347 rows have keys in ArtistId" in waiting.detail


def test_nycflights(shared_data: Path, tmp_path: Path) -> None:
    """Three revisions, of which the second repeats no weather: each new table makes a version with the others as they are."""
    lake, folder = lakehouse.init(tmp_path / "lake"), shared_data / "tables-nycflights13"
    names = [f"flights.{table}" for table in FLIGHTS_KEYS]
    for revision in ("v0.2.0", "v0.2.2", "v1.0.2"):
        for table, key in FLIGHTS_KEYS.items():
            if (path := folder / revision / f"{table}.csv").exists():
                ingest(lake, path, f"flights.{table}", key, ("", "NA", "\\N"))
        if revision == "v0.2.0":
            catalog.define_milestone(
                lake, "flights.all", names, links=["flights.weather.origin -> flights.airports.faa"]
            )
    found = versions(lake, "flights.all")
    assert len(found) == 1 + 3 + 4
    assert [m.version for m in found[0].members] == [1, 1, 1, 1]
    assert [m.version for m in found[-1].members] == [3, 3, 3, 2]
    assert all(len(v.proofs) == 1 for v in found)
    assert [lake.read(f"flights.airports@flights.all/v{n}").num_rows for n in (1, len(found))] == [1396, 1458]
