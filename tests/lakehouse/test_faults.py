"""Faults between us and the store: clear errors, nothing lost, nothing twice, and an end to every waiting."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import catalog
import jobs
from jobs.ingest.idx import encode_png
from lakehouse import ledger as ledger_module
from lakehouse import tables as tables_module
from lakehouse.decisions import DataTag, Decision
from lakehouse.errors import LakeError
from lakehouse.lake import Lake, connect
from lakehouse.storage import Storage
from lakehouse.vacuum import vacuum
from tests.support.lakes import SCHEMA, make_lake, make_table, read, rows
from tests.support.proxy import Action, FaultyProxy
from tests.support.s3 import S3Server

FAULTS: tuple[Action, ...] = ("drop_response", "503", "reset", "slow", "cut")
IMAGES = 6


class Weather:
    """The policy of a proxy: faults come at random, and some requests in a row meet them."""

    def __init__(self, seed: int, chance: float) -> None:
        self._draw, self._chance, self._left = random.Random(seed), chance, 0
        self._now: Action = "pass"

    def __call__(self, method: str, path: str, count: int) -> Action:
        """Decide about one request."""
        if not self._left and self._draw.random() < self._chance:
            self._left, self._now = self._draw.choice([1, 1, 1, 2, 4]), self._draw.choice(FAULTS)
        if not self._left:
            return "pass"
        self._left -= 1
        return "pass" if self._now == "cut" and method == "HEAD" else self._now


@dataclass(slots=True)
class Told:
    """What the caller was told: ids and numbers that were acknowledged, and those of calls that failed."""

    added: set[int] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)
    versions: dict[int, int] = field(default_factory=dict)
    """Published versions, with their rows."""
    milestones: set[int] = field(default_factory=set)
    snapshots: set[str] = field(default_factory=set)
    failed: int = 0

    def call(self, operation: Callable[[], Any], *ids: int) -> Any:
        """Return what an operation gave; None when the store failed in it: then it may have landed or not."""
        try:
            return operation()
        except LakeError as error:
            if error.kind != "storage-unavailable":  # of a store that fails now and then nothing else is true
                raise
            self.failed += 1
            self.doubtful |= set(ids)
            return None


@contextmanager
def through(proxy: FaultyProxy, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Talk to the store through a proxy."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    try:
        yield
    finally:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)


def work(lake: Lake, told: Told, rounds: int, photos: Path) -> None:
    """Do every kind of write, whatever happens to it."""
    table = lake.table("t")
    for n in range(rounds):
        if told.call(lambda n=n: table.append(rows((n, "a", 1.0))), n):
            told.added.add(n)
        if told.call(lambda n=n: table.merge(rows((n, "b", 2.0), (100 + n, "new", 2.0))), n, 100 + n):
            told.added |= {n, 100 + n}
        if n % 2 and told.call(lambda n=n: table.delete(f"id = {n}"), n):
            told.deleted.add(n)
        if version := told.call(lambda: catalog.publish(lake, "t")):
            told.versions[version.number] = version.rows
        if made := told.call(lambda: catalog.publish_milestone(lake, "m")):
            told.milestones.add(made.version.number)
        if snapshot := told.call(lambda n=n: lake.snapshot(f"s{n}", ["t"])):
            told.snapshots.add(snapshot.name)
    told.call(lambda: vacuum(lake, lake.table("t").dataset))
    told.call(lambda: jobs.ingest(lake, photos, dataset="photos"))


def check(lake: Lake, told: Told) -> None:
    """Look at the store without the proxy: all that was acknowledged is there, once."""
    ids = Counter(r["id"] for r in lake.read("t").to_arrow(["id"]).to_pylist())
    assert not ids or max(ids.values()) == 1
    assert told.added - told.deleted - told.doubtful <= set(ids) <= told.added | told.doubtful
    assert not set(ids) & (told.deleted - told.doubtful)
    versions = catalog.versions.list_versions(lake, "t")
    assert [v.number for v in versions] == list(range(len(versions), 0, -1))
    assert {v.number: v.rows for v in versions if v.number in told.versions} == told.versions
    for version in versions:
        assert lake.read(f"t@v{version.number}").to_arrow().num_rows == version.rows
    last = catalog.list_milestones(lake)[0].last_version
    assert told.milestones <= set(range(1, last + 1))
    for number in range(1, last + 1):
        assert lake.read(f"t@m/v{number}").num_rows >= 0
    assert told.snapshots <= {s.name for s in catalog.list_snapshots(lake)}
    keys = [(r["entity"], r["key"], r["commit_id"]) for r in lake.ledger.history().to_pylist()]
    assert len(keys) == len(set(keys))


def storm(server: S3Server, uri: str, photos: Path, monkeypatch: pytest.MonkeyPatch, seed: int, rounds: int) -> None:
    """Work through bad weather, look at what came of it, and go on in good weather."""
    lake = make_lake(uri)
    make_table(lake, "t", SCHEMA, key=["id"])
    lake.table("t").append(rows((-1, "first", 0.0)))
    catalog.publish(lake, "t")
    catalog.define_milestone(lake, "m", ["t"], policy="manual")
    told = Told(added={-1})
    with FaultyProxy(server.endpoint, Weather(seed, 0.04)) as proxy, through(proxy, server, monkeypatch):
        lake = told.call(lambda: connect(uri)) or connect(uri)
        work(lake, told, rounds, photos)
        assert sum(proxy.count(action) for action in FAULTS) > rounds
    check(connect(uri), told)
    calm = connect(uri)
    jobs.ingest(calm, photos, dataset="photos")
    found = [r["path"] for r in calm.read("photos").to_arrow(["path"]).to_pylist()]
    assert sorted(found) == sorted(p.name for p in photos.iterdir())
    assert calm.table("t").append(rows((500, "after", 0.0))).rows_added == 1
    check(calm, Told(told.added | {500}, told.deleted, told.doubtful, told.versions, told.milestones, told.snapshots))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of a few small images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(IMAGES):
        pixels = np.random.default_rng(n).integers(0, 256, (16, 16), np.uint8)
        (folder / f"{n}.png").write_bytes(encode_png(pixels))
    return folder


@pytest.mark.s3
@pytest.mark.parametrize("seed", range(2))
def test_storm(s3_env: S3Server, s3_uri: str, photos: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Answers lost, refusals, resets, slow and broken bodies at random: what was acknowledged is there, once."""
    storm(s3_env, s3_uri, photos, monkeypatch, seed, 2)


@pytest.mark.s3
@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 112))
def test_long_storm(s3_env: S3Server, s3_uri: str, photos: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """The same, longer and with other faults each time."""
    storm(s3_env, s3_uri, photos, monkeypatch, seed, 6)


class Outage:
    """The policy of a proxy: all is well until a commit is asked for, then the store is down until it is mended."""

    def __init__(self, path: str) -> None:
        self._path, self.down, self.refused = path, False, 0

    def __call__(self, method: str, path: str, count: int) -> Action:
        """Decide about one request."""
        self.down = self.down or (method == "PUT" and self._path in path and path.endswith(".json"))
        self.refused += self.down
        return "reset" if self.down else "pass"


@pytest.mark.s3
@pytest.mark.parametrize("what", ["append", "merge", "publish", "tag"])
def test_store_that_is_down_for_good(s3_env: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Whoever writes is told that the store is down after a bounded number of tries, and the lake is whole after."""
    lake = make_lake(s3_uri)
    make_table(lake, "t", SCHEMA, key=["id"])
    lake.table("t").append(rows((1, "a", 1.0)))
    catalog.publish(lake, "t")
    for module in (ledger_module, tables_module):
        monkeypatch.setattr(module, "PATIENCE_S", 1.0)
    operations: dict[str, Callable[[Lake], Any]] = {
        "append": lambda lake: lake.table("t").append(rows((2, "b", 1.0))),
        "merge": lambda lake: lake.table("t").merge(rows((1, "b", 1.0))),
        "publish": lambda lake: catalog.publish(lake, "t"),
        "tag": lambda lake: catalog.set_tag(lake, "t@v1", "good"),
    }
    outage = Outage("/_delta_log/")
    with FaultyProxy(s3_env.endpoint, outage) as proxy, through(proxy, s3_env, monkeypatch):
        far = connect(s3_uri)
        for _ in range(2):  # the second time it is down from the beginning
            with pytest.raises(LakeError) as caught:
                operations[what](far)
            assert caught.value.kind == "storage-unavailable"
            assert "The store failed" in caught.value.message
        with pytest.raises(LakeError) as caught:
            far.read("t")
        assert caught.value.kind == "storage-unavailable"
        assert 0 < outage.refused < 500
        outage.down, outage._path = False, "no such path"
        operations[what](far)
    whole = connect(s3_uri)
    expected = {"append": [1, 2]}.get(what, [1])
    assert whole.read("t").to_arrow().column("id").to_pylist() == expected
    assert len(catalog.versions.list_versions(whole, "t")) == (2 if what == "publish" else 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB; skipped where mounting is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all the space that is left."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as out:
        try:
            while out.write(b"x" * 4096):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk is never full")


def test_full_disk(small_disk: Path) -> None:
    """On a full disk every write says so and changes nothing; when there is space again all goes on."""
    lake = make_lake(str(small_disk / "lake"))
    make_table(lake, "t", SCHEMA, key=["id"])
    lake.table("t").append(rows((1, "a", 1.0)))
    catalog.publish(lake, "t")
    before = lake.ledger.history().num_rows
    filler = fill(small_disk)
    table = lake.table("t")
    noise = pa.table({"id": range(10, 1010), "size": np.random.default_rng(0).random(1000)})
    writes: list[Callable[[], object]] = [
        lambda: table.append(noise),
        lambda: table.merge(noise),
        lambda: table.overwrite(noise),
        lambda: table.delete("id = 1"),
        lambda: catalog.publish(lake, "t", data_tag="FINAL"),
        lambda: lake.snapshot("s", ["t"]),
        lambda: lake.ledger.decide(lambda state: (None, [Decision.put("x", next(iter(state.all(DataTag))))])),
    ]
    for write in writes:
        with pytest.raises(LakeError) as caught:
            write()
        assert caught.value.kind == "storage-full", caught.value
    fresh = connect(lake.root)
    assert fresh.read("t").to_arrow().column("id").to_pylist() == [1]
    assert fresh.ledger.history().num_rows == before
    filler.unlink()
    assert lake.table("t").append(noise).rows_added == 1000
    assert catalog.publish(lake, "t", data_tag="FINAL").number == 2
    assert connect(lake.root).read("t@FINAL").num_rows == 1001


@pytest.mark.s3
def test_listing_that_breaks_off(s3_env: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that breaks off in the middle while a decision is made is a store that failed, and is tried again."""
    make_lake(s3_uri)
    cut = 0

    def weather(method: str, path: str, count: int) -> Action:
        nonlocal cut
        listing = method == "GET" and path.rstrip("/") == f"/{s3_env.bucket}"
        cut += listing and cut < 3
        return "cut" if listing and cut < 3 else "pass"

    with FaultyProxy(s3_env.endpoint, weather) as proxy, through(proxy, s3_env, monkeypatch):
        far = Lake(Storage.open(s3_uri), "me")
        for _ in range(3):
            try:
                make_table(far, "t", SCHEMA)
                break
            except LakeError as error:
                if error.kind != "storage-unavailable":
                    raise
        assert proxy.count("cut") == 2
    assert read(connect(s3_uri), "t") == []
