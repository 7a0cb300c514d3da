"""Reads are noted without the reader's noticing, and folded exactly once whatever dies when."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import catalog
from lakehouse import reads as reads_module
from lakehouse.lake import Lake, connect
from lakehouse.read_spool import fold_reads, spooled
from lakehouse.reads import SPOOL
from lakehouse.storage import Create
from tests.support.lakes import SCHEMA, make_lake, make_table, read, rows
from tests.support.proxy import Action, FaultyProxy
from tests.support.s3 import S3Server


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lake with one published dataset."""
    return filled(root_uri)


@pytest.fixture
def local(tmp_path: Path) -> Lake:
    """The same in a folder."""
    return filled(str(tmp_path / "lake"))


def filled(uri: str) -> Lake:
    """Make the lake."""
    lake = make_lake(uri, "ann")
    make_table(lake, "t", SCHEMA, key=["id"]).append(rows((1, "a", 1.0), (2, "b", 2.0)))
    catalog.publish(lake, "t")
    return lake


def noted(lake: Lake) -> list[dict[str, Any]]:
    """Return what lies in the spool, in order."""
    return spooled(lake.storage).to_pylist()


def leave(lake: Lake, count: int) -> set[str]:
    """Put objects into the spool as readers do, each with two events; return their names."""
    names = {f"2026112{i % 10}T000000{i:06d}Z-{i:04d}.jsonl" for i in range(count)}
    for name in names:
        event = {"at": datetime.now(UTC).isoformat(), "dataset_id": "d", "table_version": 1, "reference": "t@v1"}
        event |= {"opens": 1, "bytes": 10, "rows": None, "actor": "a", "consumer": "c", "host": "h", "process": 1}
        lake.storage.put(f"{SPOOL}/{name}", f"{json.dumps(event)}\n{json.dumps(event)}".encode(), Create())
    return names


def folded(lake: Lake) -> list[str]:
    """Return the object of each row of the fact table, in order."""
    found = lake.facts.snapshot("reads")
    return [] if found is None else sorted(found.to_arrow(["spool"]).column("spool").to_pylist())


def run(root: str, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has opened the lake, with warnings as errors, until it ends."""
    program = f"import os, sys, lakehouse\nlake = lakehouse.connect({root!r}, actor='bob')\n{code}"
    words = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=os.environ | environment)


# -- what is noted ------------------------------------------------------------------------------------------------


def test_reading_is_noted(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to open a state is noted with who, what and how much; what the lakehouse opens itself is not."""
    assert noted(lake) == []  # it was filled and published
    monkeypatch.setenv("LAKEHOUSE_CONSUMER", "training")
    lake.read("t@v1")
    lake.sql('select count(*) from "t@latest" join t using (id)').fetchall()
    catalog.verify(lake)
    catalog.show_schema(lake, "t")
    lake.sql("from datasets").fetchall()
    lake.reads.flush()
    found = noted(lake)
    assert [event["reference"] for event in found] == ["main.t@v1", "main.t@latest", "main.t@head"]
    assert {event["table_version"] for event in found} == {lake.peek("t").table_version}
    assert {(e["actor"], e["consumer"], e["process"]) for e in found} == {("ann", "training", os.getpid())}
    assert {(event["bytes"], event["rows"]) for event in found} == {(lake.peek("t").file_list.bytes, 2)}


def test_members_of_a_milestone_are_noted(local: Lake) -> None:
    """A state that is opened through a milestone is noted with the reference that was used."""
    catalog.define_milestone(local, "m", ["t"])
    catalog.publish_milestone(local, "m")
    local.milestone("m/v1").read("t")
    local.reads.flush()
    assert [event["reference"] for event in noted(local)] == ["main.t@main.m/v1"]


def test_the_same_state_again_is_counted(local: Lake) -> None:
    """Openings of one state within a minute are one event, and one that counts the others after it."""
    local.read("t@v1")
    local.reads.flush()
    for _ in range(5):
        local.read("t@v1")
    local.read("t")
    local.reads.flush()
    assert [(e["reference"], e["opens"]) for e in noted(local)] == [
        ("main.t@v1", 1),
        ("main.t@v1", 5),
        ("main.t@head", 1),
    ]


def test_a_reader_that_goes_on_is_written_in_the_background(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first event comes to the store by itself, later ones too; the thread ends when there is nothing to write."""
    monkeypatch.setattr(reads_module, "PACE_S", 0.01)
    monkeypatch.setattr(reads_module, "WINDOW_S", 0.0)
    for count in (1, 2):
        lake.read("t@v1")
        assert eventually(lambda count=count: len(noted(lake)) == count)  # type: ignore[misc]
    assert eventually(lambda: lake.reads._thread is None)


def eventually(true: Any) -> bool:
    """Wait until something is true."""
    for _ in range(600):
        if true():
            return True
        time.sleep(0.05)
    return False


# -- processes that end, fork, or may not write -------------------------------------------------------------------


def test_a_process_that_ends_writes_what_is_left(lake: Lake) -> None:
    """What was noted just before the end of a process is written, and nothing is said about it."""
    ran = run(lake.root, "lake.read('t@v1'); lake.read('t@v1'); lake.read('t')", LAKEHOUSE_CONSUMER="job")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    found = noted(lake)
    assert {(event["actor"], event["consumer"]) for event in found} == {("bob", "job")}
    assert sum(event["opens"] for event in found) == 3


def test_a_fork_does_not_write_what_its_parent_noted(local: Lake) -> None:
    """A forked process that ends writes nothing; its parent writes what it noted, once."""
    code = "lake.read('t@v1'); pid = os.fork()\nif pid: print(os.waitpid(pid, 0)[1])\nsys.exit(0)"
    ran = run(local.root, code)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "0\n", "")
    assert [event["opens"] for event in noted(local)] == [1]


def test_who_may_not_write_reads_all_the_same(local: Lake) -> None:
    """Where the spool can't be written to, reading gives the rows, and nothing fails or is said."""
    Path(local.root, "_system", "spool").write_text("in the way")
    assert read(local, "t@v1") == [(1, "a", 1.0), (2, "b", 2.0)]
    local.reads.flush()
    ran = run(local.root, "print(lake.read('t@v1').num_rows)")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "2\n", "")


@pytest.mark.s3
def test_a_store_that_does_not_answer_keeps_nobody(
    s3_env: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose store refuses to take the note reads and ends as if there were none."""

    def busy(method: str, path: str, count: int) -> Action:
        return "503" if method == "PUT" and SPOOL in path else "pass"

    lake = filled(s3_uri)
    with FaultyProxy(s3_env.endpoint, busy) as proxy:
        ran = run(lake.root, "print(lake.read('t@v1').num_rows)", AWS_ENDPOINT_URL=proxy.endpoint)
        assert proxy.count("503") > 0
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "2\n", "")


def test_a_lake_that_was_deleted_stays_deleted(local: Lake, tmp_path: Path) -> None:
    """What is still noted when a lakehouse is deleted does not bring its folder back."""
    local.read("t@v1")
    local.reads.flush()
    local.read("t@v1")
    Path(local.root).rename(tmp_path / "elsewhere")
    local.reads.flush()
    assert not Path(local.root).exists()


# -- folding ------------------------------------------------------------------------------------------------------


def test_the_spool_is_folded(lake: Lake) -> None:
    """Folding moves each event into the fact table and empties the spool; there is nothing to fold after that."""
    names = leave(lake, 5)
    before = noted(lake)
    assert fold_reads(lake.storage, lake.facts) == 5
    assert folded(lake) == sorted([*names, *names])
    assert noted(lake) == []
    assert fold_reads(lake.storage, lake.facts) == 0
    facts = lake.facts.snapshot("reads")
    assert facts is not None
    assert sorted(facts.to_arrow().to_pylist(), key=str) == sorted(before, key=str)


def test_a_fold_in_several_commits(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large spool is folded in parts."""
    monkeypatch.setattr("lakehouse.read_spool.AT_MOST", 3)
    names = leave(local, 8)
    assert fold_reads(local.storage, local.facts) == 8
    assert folded(local) == sorted([*names, *names])


def test_what_was_folded_and_not_deleted_is_not_doubled(lake: Lake) -> None:
    """A fold that died between its commit and the deletion is finished; until then the view counts each event once."""
    names = leave(lake, 4)
    contents = {name: lake.storage.get(f"{SPOOL}/{name}") for name in names}
    fold_reads(lake.storage, lake.facts)
    for name, content in contents.items():
        lake.storage.put(f"{SPOOL}/{name}", content, Create())
    assert lake.sql("select count(*) from reads").fetchall() == [(8,)]
    assert fold_reads(lake.storage, lake.facts) == 4
    assert folded(lake) == sorted([*names, *names])
    assert noted(lake) == []


def test_an_object_that_can_not_be_read_stays(local: Lake) -> None:
    """Objects that are no events are left where they are, and keep nothing else from being folded."""
    names = leave(local, 2)
    broken = {"a.jsonl": b"{", "b.jsonl": b"{}", "c.jsonl": b'{"at": "2026-11-01T00:00:00Z"}', "d.jsonl": b"\xff"}
    for name, content in broken.items():
        local.storage.put(f"{SPOOL}/{name}", content, Create())
    assert fold_reads(local.storage, local.facts) == 2
    assert folded(local) == sorted([*names, *names])
    assert {info.key for info in local.storage.list(SPOOL)} == {f"{SPOOL}/{name}" for name in broken}


def test_vacuum_folds_the_spool(local: Lake) -> None:
    """A clean-up of the whole lakehouse folds the spool; its dry run, and that of one dataset, do not."""
    leave(local, 2)
    catalog.vacuum(local, dry_run=True)
    catalog.vacuum(local, "t")
    assert len(noted(local)) == 4
    catalog.vacuum(local)
    assert noted(local) == []
    assert len(folded(local)) == 4


def test_processes_fold_at_once(lake: Lake) -> None:
    """Processes that fold at the same time fold each event once, also when they make the table."""
    names = leave(lake, 10)
    with get_context("spawn").Pool(3) as pool:
        pool.map(fold_slowly, [lake.root] * 3)
    assert folded(lake) == sorted([*names, *names])
    assert noted(lake) == []


@pytest.mark.parametrize("where", ["lakehouse.facts.Facts.append", "lakehouse.storage.Storage.delete"])
def test_folds_that_are_killed(local: Lake, where: str) -> None:
    """Folds that are killed before their commit, or between it and the deletion, lose no event and double none."""
    names = leave(local, 9)
    for last in range(3):
        worker = get_context("spawn").Process(target=fold_and_die, args=(local.root, where, last))
        worker.start()
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
        assert len(noted(local)) > 0
    fold_reads(local.storage, local.facts)
    assert folded(local) == sorted([*names, *names])
    assert noted(local) == []


def fold_and_die(root: str, where: str, last: int) -> None:
    """Fold two objects a commit, and be killed where some function is called again after so many calls."""
    owner, _, name = where.rpartition(".")
    module, _, cls = owner.rpartition(".")
    function, calls = getattr(getattr(sys.modules[module], cls), name), list[int]()

    def dying(*args: Any) -> Any:
        if len(calls) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        calls.append(1)
        return function(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, dying)
        fold_slowly(root)


def fold_slowly(root: str) -> None:
    """Fold two objects a commit, in a process of its own."""
    lake = connect(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lakehouse.read_spool.AT_MOST", 2)
        fold_reads(lake.storage, lake.facts)
