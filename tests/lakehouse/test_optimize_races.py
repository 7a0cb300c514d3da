"""Optimize beside others: what they commit counts, whatever dies, and whatever answer is lost."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import catalog
from lakehouse import compaction, rewriting
from lakehouse.commits import own_commit
from lakehouse.compaction import OptimizeReport, optimize
from lakehouse.lake import Lake, connect
from lakehouse.restoring import restore
from lakehouse.tables import Table
from lakehouse.vacuum import vacuum
from tests.support.lakes import adds, filled, make_lake, read, rows
from tests.support.proxy import Action, FaultyProxy
from tests.support.s3 import S3Server


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lake on each backend."""
    return make_lake(root_uri)


@pytest.fixture
def local(tmp_path: Path) -> Lake:
    """A lake in a folder."""
    return make_lake(str(tmp_path / "lake"))


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], times: int = 1) -> None:
    """Let somebody act between the writing of new files and their commit, the first so many times."""
    real, left = rewriting.write_parts, [times]

    def paused(*args: Any) -> Any:
        written = real(*args)
        if left[0]:
            left[0] -= 1
            act()
        return written

    monkeypatch.setattr(compaction, "write_parts", paused)


def cleaned(lake: Lake, table: Table) -> None:
    """Delete rows, and at once also the files that held them."""
    table.delete("id < 3")
    vacuum(lake, table.dataset, keep_for=timedelta(0))


ACTS: dict[str, Callable[[Lake, Table], object]] = {
    "append": lambda _, table: table.append(rows((9_000, "new", 0.0))),
    "merge": lambda _, table: table.merge(rows((1, "merged", 0.0), (9_000, "new", 0.0))),
    "delete": lambda _, table: table.delete("id < 20"),
    "overwrite": lambda _, table: table.overwrite(rows((1, "only", 0.0))),
    "restore": lambda lake, _: restore(lake, "t", "t@#2"),
    "optimize": lambda lake, _: optimize(connect(lake.root), "t"),
    "delete and vacuum": cleaned,
    "delete and undo": lambda lake, table: (table.delete("id < 20"), restore(lake, "t", f"t@#{table.version() - 1}")),
}


@pytest.mark.parametrize("wish", [{}, {"sort": True}, {"zorder": ["size", "id"], "full": True}], ids=str)
@pytest.mark.parametrize("act", ACTS)
def test_somebody_was_faster(local: Lake, act: str, wish: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What another writer commits before the new files are, counts; and the work is done on top of it."""
    table, expected = filled(local), list[Any]()

    def others() -> None:
        ACTS[act](local, local.table("t"))
        expected.extend(read(local))

    meanwhile(monkeypatch, others)
    report = optimize(local, "t", **wish)
    assert sorted(read(local)) == sorted(expected)
    assert report.left == ()
    assert len(adds(table)) <= 2
    assert optimize(local, "t").commits <= 1


def test_somebody_is_always_faster(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a writer that always wins it gives up, and says which files stayed; no row is lost."""
    table, number = filled(local), iter(range(100))
    meanwhile(monkeypatch, lambda: table.merge(rows((1, f"merged {next(number)}", 0.0))), times=100)
    monkeypatch.setattr(compaction, "backoff", lambda _: None)
    report = optimize(local, "t")
    assert (report.commits, report.rewritten, report.files_after) == (0, 0, report.files_before)
    assert len(report.left) == report.files_before
    assert len(read(local)) == 300
    assert (1, f"merged {compaction.ROUNDS - 1}", 0.0) in read(local)


def test_two_at_once(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that replace the same files at the same moment one lands: delta-rs by itself would let both."""
    filled(local)
    before = sorted(read(local))

    def last_moment(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(rewriting, "own_commit", own_commit)
        assert optimize(connect(local.root), "t").commits == 1
        return own_commit(*args, **options)

    monkeypatch.setattr(rewriting, "own_commit", last_moment)
    assert optimize(local, "t").commits == 0
    assert sorted(read(local)) == before


def test_beside_writers(lake: Lake) -> None:
    """Appends, merges and deletes go on while it runs again and again: every row is there once, with its last value."""
    filled(lake, 3, 40)
    stop, failures = threading.Event(), list[BaseException]()
    model = {i: (i, f"n{i % 7}", i / 3) for i in range(120)}

    def optimizing(wish: dict[str, Any]) -> None:
        mine = connect(lake.root)
        while not stop.is_set():
            try:
                optimize(mine, "t", **wish)
            except BaseException as error:  # noqa: BLE001 - told below
                failures.append(error)
                return

    workers = [threading.Thread(target=optimizing, args=(wish,)) for wish in ({}, {"sort": True, "full": True})]
    for worker in workers:
        worker.start()
    table, draw = lake.table("t"), random.Random(1)
    for step in range(8):
        fresh = [(1_000 * (step + 1) + i, "new", float(i)) for i in range(5)]
        table.append(rows(*fresh))
        changed = [(i, f"changed {step}", 0.5) for i in draw.sample(sorted(model), 4)]
        table.merge(rows(*changed))
        model |= {r[0]: r for r in (*fresh, *changed)}
        gone = draw.choice(sorted(model))
        assert table.delete(f"id = {gone}").rows_removed == 1
        del model[gone]
    stop.set()
    for worker in workers:
        worker.join()
    assert not failures
    assert sorted(read(lake)) == sorted(model.values())


KILLED = """
import sys
import lakehouse
lake = lakehouse.connect(sys.argv[1])
print("ready", flush=True)
full = False
while True:
    print(lakehouse.optimize(lake, "t", sort=full, full=full, target_bytes=1 if full else 1 << 27).table_version, flush=True)
    full = True
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed(local: Lake, seed: int) -> None:
    """Killed at any moment, the head has its rows, published versions theirs, and the next one does the work."""
    filled(local, 10, 100)
    catalog.publish(local, "t")
    head, published, draw = sorted(read(local)), read(local, "t@v1"), random.Random(seed)
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", KILLED, local.root], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(draw.uniform(0.0, 0.25))
            process.kill()
            said = process.stdout.read().split()
        assert connect(local.root).table("t").version() >= max(map(int, said), default=0)
        assert sorted(read(connect(local.root))) == head
        assert read(connect(local.root), "t@v1") == published
    assert optimize(local, "t", sort=True, full=True).files_after == 1
    assert read(local) == head


@pytest.mark.s3
def test_lost_answers(s3_env: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit whose answer was lost is recognised: it is made once, and told as made."""

    def drop_commits(method: str, path: str, count: int) -> Action:
        commit = method == "PUT" and "/_delta_log/" in path and path.endswith(".json") and "/main/t" in path
        return "drop_response" if commit else "pass"

    lake = make_lake(s3_uri)
    table = filled(lake, 3)
    before = read(lake)
    with FaultyProxy(s3_env.endpoint, drop_commits) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        report: OptimizeReport = optimize(connect(s3_uri), "t")
        assert proxy.count("drop_response")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_env.endpoint)
    assert (report.commits, report.table_version) == (1, 4) == (1, table.version())
    assert read(connect(s3_uri)) == before
