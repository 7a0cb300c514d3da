"""Many writers at once: everything acknowledged is there, once."""

from __future__ import annotations

import random
from collections.abc import Callable
from multiprocessing import get_context

import pyarrow as pa
import pytest

import catalog
from lakehouse.lake import Lake, connect
from tests.support.lakes import make_lake, make_table
from tests.support.proxy import Action, FaultyProxy
from tests.support.s3 import S3Server

SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string())])


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lake with one dataset, `t`, on each backend."""
    made = make_lake(root_uri)
    make_table(made, "t", SCHEMA, key=["id"])
    return made


def one(number: int) -> pa.Table:
    """Return one row."""
    return pa.table({"id": [number], "label": [f"l{number % 3}"]}, schema=SCHEMA)


def append_there(uri: str, worker: int, count: int) -> list[tuple[int, int]]:
    """Append rows one by one in a process of its own; return (row, version) of each acknowledged commit."""
    table = connect(uri, actor=f"worker-{worker}").table("t")
    numbers = [worker * 1000 + i for i in range(count)]
    return [(n, table.append(one(n), run=f"run-{worker}").table_version) for n in numbers]


def merge_there(uri: str, worker: int, count: int) -> int:
    """Merge rows that other processes merge too; return how many this one inserted."""
    table = connect(uri).table("t")
    return sum(table.merge(pa.table({"id": [i, 500 + worker], "label": ["x", "y"]})).rows_added for i in range(count))


def publish_there(uri: str, worker: int, count: int) -> list[tuple[str, int]]:
    """Publish, tag and publish the milestone in turn; return every number that was told."""
    lake, numbers = connect(uri, actor=f"worker-{worker}"), []
    for i in range(count):
        lake.table("t").append(one(worker * 1000 + i))
        version = catalog.publish(lake, "t")
        catalog.set_tag(lake, f"t@v{version.number}", "newest")
        numbers += [("t", version.number), ("m", catalog.publish_milestone(lake, "m").version.number)]
    return numbers


def at_once(work: Callable[..., object], uri: str, processes: int, count: int) -> list[list[tuple[int, int]]]:
    """Run `work(uri, worker, count)` in many processes at the same time."""
    with get_context("spawn").Pool(processes) as pool:
        return pool.starmap(work, [(uri, worker, count) for worker in range(processes)])  # type: ignore[return-value]


def test_appends(lake: Lake) -> None:
    """Every append of 8 processes x 50 lands once, as a version of its own, which its caller is told."""
    processes, count = 8, 50
    acknowledged = [pair for part in at_once(append_there, lake.root, processes, count) for pair in part]
    rows = lake.read("t").to_arrow().column("id").to_pylist()
    assert len(acknowledged) == processes * count
    assert sorted(rows) == sorted(n for n, _ in acknowledged)
    assert sorted(v for _, v in acknowledged) == list(range(1, processes * count + 1))
    log = lake.table("t").log()
    assert {(e.table_version, e.user) for e in log[:-1]} == {(v, f"worker-{n // 1000}") for n, v in acknowledged}


def test_merges(lake: Lake) -> None:
    """Processes that merge the same keys at the same time insert each key once."""
    inserted = at_once(merge_there, lake.root, 3, 4)
    ids = lake.read("t").to_arrow().column("id").to_pylist()
    assert sorted(ids) == [0, 1, 2, 3, 500, 501, 502]
    assert sum(map(int, inserted)) == len(ids)  # type: ignore[call-overload]


def check_publications(lake: Lake, processes: int, count: int) -> None:
    """Publish versions and milestone versions from many processes and look at the numbers."""
    catalog.publish(lake, "t")
    catalog.define_milestone(lake, "m", ["t"], policy="manual")
    taken = [pair for part in at_once(publish_there, lake.root, processes, count) for pair in part]
    total = processes * count
    assert sorted(n for kind, n in taken if kind == "t") == list(range(2, total + 2))
    made = [lake.milestone(f"m/v{n}").version for n in range(1, catalog.list_milestones(lake)[0].last_version + 1)]
    assert {n for kind, n in taken if kind == "m"} <= set(range(1, len(made) + 1))
    pinned = [v.members[0].version or 0 for v in made]
    assert pinned == sorted(set(pinned))
    assert pinned[-1] == total + 1
    versions = catalog.versions.list_versions(lake, "t")
    assert [v.number for v in versions] == list(range(total + 1, 0, -1))
    assert 2 <= catalog.list_tags(lake, "t")["newest"] <= total + 1
    for version in versions[:3]:
        snapshot = lake.read(f"t@v{version.number}")
        assert snapshot.metadata.splits[""].rows == snapshot.num_rows == version.rows


def test_publications(lake: Lake) -> None:
    """Versions published at the same time get consecutive numbers: none twice, none lost; milestones pin each once."""
    check_publications(lake, 3, 2)


@pytest.mark.nightly
def test_many_publications(lake: Lake) -> None:
    """8 processes x 10 rounds."""
    check_publications(lake, 8, 10)


@pytest.mark.s3
def test_lost_answers(s3_env: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the answers of a third of all commits lost, of data, decisions and facts, nothing is lost or done twice."""
    draw = random.Random(7)

    def drop_some(method: str, path: str, count: int) -> Action:
        commit = method == "PUT" and "/_delta_log/" in path and path.endswith(".json")
        return "drop_response" if commit and draw.random() < 0.33 else "pass"

    with FaultyProxy(s3_env.endpoint, drop_some) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        lake = make_lake(s3_uri)
        table = make_table(lake, "t", SCHEMA, key=["id"])
        catalog.define_milestone(lake, "m", ["t"], policy="manual")
        for number in range(3):
            assert table.append(one(number)).table_version == number + 1
            if number != 1:
                version = catalog.publish(lake, "t")
                assert version.number == number // 2 + 1
        assert catalog.publish_milestone(lake, "m").version.number == 1
        assert table.merge(pa.table({"id": [0, 100], "label": ["new", "new"]})).rows_added == 1
        assert table.delete("id = 1").rows_removed == 1
        assert table.overwrite(one(5)).rows_removed == 3
        assert proxy.count("drop_response") >= 5
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_env.endpoint)
    lake = connect(s3_uri)
    assert lake.read("t@#3").to_arrow().column("id").to_pylist() == list(range(3))
    assert lake.read("t").to_arrow().column("id").to_pylist() == [5]
    assert [v.number for v in catalog.versions.list_versions(lake, "t")] == [2, 1]
    assert lake.read("t@v2").metadata.rows == 3
    assert lake.read("t@m/v1").table_version == 3
