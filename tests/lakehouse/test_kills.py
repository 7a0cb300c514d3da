"""Processes that are killed at any moment: what was acknowledged is there once, what was not is whole or not at all.

20 kills by default; 1,000 with `-m nightly`, on lakes of 25 kills each, so that what the dead leave piles up.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

import catalog
from tests.support.aftermath import Ingested, Tables, check_bytes, check_cleaned, finish_features
from tests.support.kills import KINDS, SCHEMA, Killer, make_material, small_batches
from tests.support.lakes import make_lake, make_table

_INGESTS = ("ingest", "csv", "features")


def kill_often(root: str, kind: str, seed: int, count: int, folder: Path) -> Killer:
    """Kill workers of one kind, one after the other, on one lake, and look at it after each."""
    killer = Killer(root, kind, folder, random.Random(f"{kind} {seed}"))
    lake = make_lake(root)
    if kind in _INGESTS:
        make_material(folder, kind, 12 * count)
        ingested = Ingested(root)
        for _ in range(count):
            ingested.follow(killer.kill())
            ingested.check()
            if kind == "features" and ingested.folders:
                finish_features(root)
            check_cleaned(root, ["photos", "photos_features", "rows"])
        ingested.check(all_of_it=True)
        if kind != "csv":
            check_bytes(root)
        ingested.check(all_of_it=True)
        return killer
    for name in ("t", "u"):
        make_table(lake, name, SCHEMA, key=["id"])
        catalog.publish(lake, name)
    catalog.define_milestone(lake, "m", ["t", "u"], policy="manual")
    tables = Tables(root, killer.draw, versions={"t": [{}], "u": [{}]})
    for _ in range(count):
        tables.follow(killer.kill())
        tables.check()
        check_cleaned(root, ["t", "u"])
    tables.check(all_of_it=True)
    return killer


def report(killer: Killer, where: str) -> None:
    """Say how many kills fell in which operation."""
    hits = ", ".join(f"{what} {n}" for what, n in killer.hit.most_common())
    sys.stdout.write(
        f"KILLS {where} {killer.kind}: {killer.hit.total()} kills, {killer.begun} operations; in: {hits}\n"
    )


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch.setattr)


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_kills(tmp_path: Path, kind: str) -> None:
    """Two kills of each kind in a folder."""
    report(kill_often(str(tmp_path / "lake"), kind, 0, 2, tmp_path), "local")


@pytest.mark.s3
@pytest.mark.parametrize("kind", ["features", "mix"])
def test_kills_on_s3(s3_uri: str, tmp_path: Path, kind: str) -> None:
    """Two kills of what does most, on S3."""
    report(kill_often(s3_uri, kind, 0, 2, tmp_path), "s3")


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("kind", KINDS)
def test_many_kills(tmp_path: Path, kind: str, seed: int) -> None:
    """25 kills of each kind on each of 4 lakes in folders: 900."""
    report(kill_often(str(tmp_path / "lake"), kind, seed, 25, tmp_path), "local")


@pytest.mark.nightly
@pytest.mark.s3
@pytest.mark.parametrize("kind", KINDS)
def test_many_kills_on_s3(s3_uri: str, tmp_path: Path, kind: str) -> None:
    """25 kills of each kind on a lake on S3: 225."""
    report(kill_often(s3_uri, kind, 1, 25, tmp_path), "s3")
