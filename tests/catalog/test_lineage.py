"""Lineage: every run is recorded before it writes, and each state is traced both ways."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from openlineage.client.event_v2 import RunState

import catalog
from catalog.lineage import lineage_tree
from catalog.openlineage import event_json
from lakehouse.decisions import Cursor, Decision, Lease
from lakehouse.errors import NotFoundError, StateError
from lakehouse.lake import Lake
from lakehouse.tables import Table
from lakehouse.vacuum import vacuum
from tests.support.lakes import make_table

SCHEMA = pa.schema([("id", pa.int64())])


def step(lake: Lake, job: str, source: Table, target: Table) -> str:
    """Run a job that reads one table and writes another; return its id."""
    with catalog.start_run(lake, job, parameters={"x": 1}, inputs=[lake.read(source.name)]) as run:
        commit = target.append(pa.table({"id": [1]}), run=run.run)
        run.output(target.dataset, commit.table_version)
    return run.run


def runs(lake: Lake) -> list[dict[str, object]]:
    """Return what is known of the runs."""
    found: list[dict[str, object]] = lake.sql("select * from lake.runs").to_arrow_table().to_pylist()
    return found


def test_run_is_recorded_first(photos: Table, lake: Lake) -> None:
    """A run is there as running before it has done anything, and as succeeded with its outputs afterwards."""
    with catalog.start_run(lake, "job", parameters={"a": [1]}, inputs=[lake.read("photos")], source="disk") as run:
        [row] = runs(lake)
        assert (row["run"], row["status"], row["actor"]) == (run.run, "running", "tester")
        run.counts["items"] = 3
        run.output(photos.dataset, 7)
        run.output(photos.dataset, 8)
    [row] = runs(lake)
    assert row["status"] == "succeeded"
    assert json.loads(str(row["parameters"])) == {"a": [1], "source": "disk"}
    assert json.loads(str(row["counts"])) == {"items": 3}
    assert [o["table_version"] for o in json.loads(str(row["outputs"]))] == [8]
    assert "python" in str(row["code_version"])


def test_failed_run(lake: Lake) -> None:
    """A failure is recorded: our own message, but of a foreign error only its type, which may hold row values."""
    for error in (StateError("some-kind", "What happened."), ValueError("row 7 has the secret 42")):
        with pytest.raises(type(error)), catalog.start_run(lake, "job", parameters={}):
            raise error
    said = sorted(str(row["error"]) for row in runs(lake))
    assert said == ["ValueError", "some-kind: What happened."]
    assert {row["status"] for row in runs(lake)} == {"failed"}


def test_a_run_resumed_to_success_has_no_error(lake: Lake) -> None:
    """A run that failed and was resumed shows no error once it has succeeded."""
    with pytest.raises(ValueError, match="no"), catalog.start_run(lake, "job", parameters={}) as run:
        raise ValueError("no")
    with catalog.Run(lake, "job", run.run):
        pass
    assert [(row["status"], row["error"]) for row in runs(lake)] == [("succeeded", None)]


def test_a_run_leases_what_it_reads(photos: Table, lake: Lake) -> None:
    """While a run works its inputs are pinned; a run that read nothing decides nothing."""
    with catalog.start_run(lake, "job", parameters={}, inputs=[lake.read("photos")]) as run:
        [lease] = lake.state().all(Lease)
        assert (lease.name, lease.holder) == (run.run, "tester")
        assert timedelta(days=2) < lease.expires_at - datetime.now(UTC) < timedelta(days=3)
        photos.delete("id = 1")
        vacuum(lake, photos.dataset, keep_for=timedelta())
        assert lake.read("photos@#1").to_arrow().num_rows == 2
    assert list(lake.state().all(Lease)) == []
    before = lake.state().seq
    with catalog.start_run(lake, "job", parameters={}):
        pass
    assert lake.state().seq == before


def test_a_cursor_takes_the_place_of_the_lease(photos: Table, lake: Lake) -> None:
    """After a run its input and the changes since stay for the next one, which moves the cursor on."""
    target = make_table(lake, "features", SCHEMA)
    before = lake.state().seq
    step(lake, "features", photos, target)
    assert lake.state().seq == before + 2
    [cursor] = lake.state().all(Cursor)
    assert (cursor.job, cursor.target) == ("features", target.dataset.dataset_id)
    assert (cursor.dataset_id, cursor.table_version) == (photos.dataset.dataset_id, 1)
    assert timedelta(days=89) < cursor.expires_at - datetime.now(UTC) < timedelta(days=90)
    photos.append(pa.table({"id": [3], "label": ["x"]}))
    photos.append(pa.table({"id": [4], "label": ["y"]}))
    vacuum(lake, photos.dataset, keep_for=timedelta())
    assert [lake.read(f"photos@#{n}").to_arrow().num_rows for n in (1, 2)] == [2, 3]
    step(lake, "features", photos, target)
    assert [c.table_version for c in lake.state().all(Cursor)] == [3]


def test_a_failed_run_leaves_no_cursor(photos: Table, lake: Lake) -> None:
    """A failure ends the lease, and what the last run that ended well had read stays."""
    with (
        pytest.raises(ValueError, match="no"),
        catalog.start_run(lake, "j", parameters={}, inputs=[lake.read("photos")]),
    ):
        raise ValueError("no")
    assert [*lake.state().all(Lease), *lake.state().all(Cursor)] == []


def test_no_cursor_behind_what_is_given_up(photos: Table, lake: Lake) -> None:
    """A run over an old, pinned state whose later changes are gone sets no cursor, which would stop every clean-up."""
    catalog.publish(lake, "photos")
    for _ in range(2):
        photos.append(pa.table({"id": [3], "label": ["x"]}))
    vacuum(lake, photos.dataset, keep_for=timedelta())
    with catalog.start_run(lake, "job", parameters={}, inputs=[lake.read("photos@v1")]) as run:
        run.output(photos.dataset, 3)
    assert [*lake.state().all(Lease), *lake.state().all(Cursor)] == []


def test_cursors_that_ended_go(photos: Table, lake: Lake) -> None:
    """The next run that finishes removes the cursors whose time is over."""
    over = datetime.now(UTC) - timedelta(hours=1)
    old = Cursor(job="old", target="x", dataset_id="y", table_version=0, expires_at=over)
    lake.ledger.decide(lambda _: (None, [Decision.put("test", old)]))
    with catalog.start_run(lake, "job", parameters={}, inputs=[lake.read("photos")]) as run:
        run.output(photos.dataset, 1)
    assert [c.job for c in lake.state().all(Cursor)] == ["job"]


def test_what_is_given_up_is_no_input(photos: Table, lake: Lake) -> None:
    """A run whose input was cleaned up before it began is not started."""
    was = lake.read("photos")
    photos.append(pa.table({"id": [3], "label": ["x"]}))
    vacuum(lake, photos.dataset, keep_for=timedelta())
    with pytest.raises(NotFoundError) as caught:
        catalog.start_run(lake, "job", parameters={}, inputs=[was])
    assert caught.value.kind == "version-folded"
    assert runs(lake) == []


def test_both_ways(photos: Table, lake: Lake) -> None:
    """From a derived state back to its source, nearest first, and from the source forward to all that came of it."""
    features, labels = (make_table(lake, name, SCHEMA) for name in ("features", "labels"))
    first = step(lake, "features", photos, features)
    second = step(lake, "labels", features, labels)
    back = catalog.lineage(lake, "labels")
    assert [(e.depth, e.run, e.input, e.output) for e in back] == [
        (1, second, "main.features@#1", "main.labels@#1"),
        (2, first, "main.photos@#1", "main.features@#1"),
    ]
    forward = catalog.lineage(lake, "photos@#1", forward=True)
    assert [(e.depth, e.run) for e in forward] == [(1, first), (2, second)]
    assert catalog.lineage(lake, "photos") == []
    assert catalog.lineage(lake, "labels@#0") == []


def test_cycle_ends(photos: Table, lake: Lake) -> None:
    """Two datasets that are made from each other in turn do not send the search round for ever."""
    other = make_table(lake, "other", photos.schema())
    for source, target in ((photos, other), (other, photos), (photos, other)):
        with catalog.start_run(lake, "job", parameters={}, inputs=[lake.read(source.name)]) as run:
            commit = target.append(pa.table({"id": [1], "label": ["x"]}), run=run.run)
            run.output(target.dataset, commit.table_version)
    assert {e.run for e in catalog.lineage(lake, "other")} == {row["run"] for row in runs(lake)}


def test_unknown(lake: Lake) -> None:
    """Lineage of what does not exist is an error."""
    with pytest.raises(NotFoundError):
        catalog.lineage(lake, "nothing")


def test_what_is_known_of_a_step(photos: Table, lake: Lake) -> None:
    """Each step has its run's parameters, code version and counts, and the published versions that it read and wrote."""
    target = make_table(lake, "features", SCHEMA)
    catalog.publish(lake, "photos")
    with catalog.start_run(lake, "job", parameters={"size": 32}, inputs=[lake.read("photos@v1")]) as run:
        run.counts["processed"] = 1
        run.output(target.dataset, target.append(pa.table({"id": [1]}), run=run.run).table_version)
    catalog.publish(lake, "features")
    [edge] = catalog.lineage(lake, "features@v1")
    assert (edge.input_version, edge.output_version, edge.status, edge.actor) == (1, 1, "succeeded", "tester")
    assert (edge.parameters, edge.counts) == ({"size": 32}, {"processed": 1})
    assert "python" in (edge.code_version or "")
    assert edge.started_at is not None
    assert edge.finished_at is not None
    assert edge.started_at <= edge.finished_at


def test_tree(photos: Table, lake: Lake) -> None:
    """As a tree each step hangs under what it led to; a step that is shown once is not drawn again."""
    features, labels, both = (make_table(lake, name, SCHEMA) for name in ("features", "labels", "both"))
    first, second = step(lake, "features", photos, features), step(lake, "labels", photos, labels)
    with catalog.start_run(lake, "join", parameters={}, inputs=[lake.read("features"), lake.read("labels")]) as run:
        run.output(both.dataset, both.append(pa.table({"id": [1]}), run=run.run).table_version)
    assert lineage_tree("both", catalog.lineage(lake, "both")) == [
        "both",
        f"├─ main.features@#1  [join, {run.run}]",
        f"│  └─ main.photos@#1  [features, {first}]",
        f"└─ main.labels@#1  [join, {run.run}]",
        f"   └─ main.photos@#1  [labels, {second}]",
    ]
    forward = lineage_tree("photos", catalog.lineage(lake, "photos@#1", forward=True), forward=True)
    assert [line.strip("│├└─ ").split()[0] for line in forward] == [
        "photos",
        "main.labels@#1",
        "main.both@#1",
        "main.features@#1",
        "main.both@#1",
    ]


def test_runs_that_only_read(photos: Table, lake: Lake) -> None:
    """A run that wrote no dataset, such as a training, is listed as a reader of what it read, and made nothing."""
    with catalog.start_run(lake, "train", parameters={"folds": 3}, inputs=[lake.read("photos")]) as run:
        pass
    with catalog.start_run(lake, "idle", parameters={}):
        pass
    forward = catalog.lineage(lake, "photos", forward=True)
    assert [(e.run, e.input, e.output, e.status) for e in forward] == [(run.run, "main.photos@#1", None, "succeeded")]
    assert lineage_tree("photos", forward, forward=True) == ["photos", f"└─ (only read)  [train, {run.run}]"]
    assert catalog.lineage(lake, "photos") == []
    _, ended = (json.loads(event_json(e)) for e in catalog.openlineage_events(lake, "photos", forward=True))
    assert ([d["name"] for d in ended["inputs"]], ended["outputs"]) == (["main.photos"], [])


@pytest.mark.parametrize(
    ("source", "named"),
    [("/data/a.csv", ("file", "/data/a.csv")), ("s3://bucket/in/a.csv", ("s3://bucket", "in/a.csv"))],
)
def test_openlineage_of_what_came_from_outside(photos: Table, lake: Lake, source: str, named: tuple[str, str]) -> None:
    """Parameters are JSON, a source outside the lakehouse is an input, and what a query counted are its rows."""
    said = {"split": {"by": None}, "full": False, "word": "as it is"}
    with catalog.start_run(lake, "query", parameters=said, source=source) as run:
        run.counts = {"rows": 2}
        run.output(photos.dataset, 1)
    _, ended = (json.loads(event_json(e)) for e in catalog.openlineage_events(lake, "photos"))
    assert [(d["namespace"], d["name"]) for d in ended["inputs"]] == [named]
    assert ended["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 2
    told = {p["name"]: p["value"] for p in ended["run"]["facets"]["executionParameters"]["parameters"]}
    assert told == {"split": '{"by": null}', "full": "false", "word": "as it is", "source": source}


def test_openlineage(photos: Table, lake: Lake) -> None:
    """Runs are START and COMPLETE or FAIL events of OpenLineage, with states as versions; the same run, the same id."""
    target = make_table(lake, "features", SCHEMA)
    step(lake, "features", photos, target)
    bad = catalog.start_run(lake, "bad", parameters={}, inputs=[lake.read("photos")])
    bad.output(target.dataset, target.append(pa.table({"id": [2]}), run=bad.run).table_version)
    bad.__exit__(StateError, StateError("some-kind", "What happened."), None)
    events = catalog.openlineage_events(lake, "features")
    assert [event.eventType for event in events] == [RunState.START, RunState.COMPLETE, RunState.START, RunState.FAIL]
    assert len({event.run.runId for event in events}) == 2
    started, ended, _, failed = (json.loads(event_json(event)) for event in events)
    assert started["run"]["runId"] == ended["run"]["runId"]
    assert (ended["job"]["name"], ended["job"]["namespace"]) == ("features", f"file://{lake.root}")
    assert [(d["name"], d["facets"]["version"]["datasetVersion"]) for d in ended["inputs"]] == [("main.photos", "1")]
    assert [(d["name"], d["facets"]["version"]["datasetVersion"]) for d in ended["outputs"]] == [("main.features", "1")]
    assert ended["run"]["facets"]["executionParameters"]["parameters"] == [{"key": "x", "name": "x", "value": "1"}]
    assert failed["run"]["facets"]["errorMessage"]["message"] == "some-kind: What happened."
    assert catalog.openlineage_events(lake, "features")[0].run.runId == events[0].run.runId
