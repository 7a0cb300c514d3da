"""Races: what pins, deletes, rewrites and cleans up at the same time; each with the rule that decides it, and without.

Each brings one call to the worst moment of another, by a hook; `test_storms` leaves the moment to chance.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import catalog
import catalog.versions
from lakehouse import compaction, lifetimes, merging, restoring, rewriting, small_files, upkeep
from lakehouse import vacuum as vacuums
from lakehouse.compaction import optimize
from lakehouse.decisions import Condemned, Dataset, Decision, Name
from lakehouse.delta import list_files, open_delta
from lakehouse.errors import LakeError, NotFoundError, StateError
from lakehouse.lake import Lake, connect
from lakehouse.ledger import Ledger, State
from lakehouse.restoring import restore
from lakehouse.vacuum import Survey, vacuum
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.int64())])
METRIC = pa.table(
    {"dataset_id": ["d"], "table_version": [1], "split": [""], "name": ["rows"], "value": [1.0], "label": [""]}
)
ZERO = timedelta(0)
RULE = pytest.mark.parametrize("careful", [True, False], ids=["rule", "without the rule"])
Rows = list[tuple[int, int]]


def some(*ids: int, x: int = 0) -> pa.Table:
    """Return rows."""
    return pa.table({"id": list(ids), "x": [x] * len(ids)}, schema=SCHEMA)


def read(lake: Lake, reference: str = "t") -> Rows:
    """Read a state as a fresh process does."""
    rows = connect(lake.root).read(reference).to_arrow()
    return sorted(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def clean(lake: Lake) -> None:
    """Give up what nothing pins, as another process does."""
    other = connect(lake.root)
    vacuum(other, other.table("t").dataset, keep_for=ZERO)


@pytest.fixture(params=["local", pytest.param("s3", marks=[pytest.mark.s3, pytest.mark.nightly])])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh root: a folder, and in the long run a prefix on S3 too."""
    return str(tmp_path / "lake" if request.param == "local" else request.getfixturevalue("s3_uri"))


@pytest.fixture
def lake(root: str) -> Lake:
    """A lake whose table `t` has the versions 1, 2 and 3, without a file in common: (n, 0) is the row of version n."""
    made = make_lake(root)
    table = make_table(made, "t", SCHEMA, key=["id"])
    for number in (1, 2, 3):
        table.overwrite(some(number))
    return made


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets something happen once, right before a function runs."""

    def hook(owner: object, name: str, event: Callable[[], object]) -> None:
        original, waiting = getattr(owner, name), [event]

        def hooked(*args: Any, **kwargs: Any) -> Any:
            while waiting:
                waiting.pop()()
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, hooked)

    return hook


# -- pins against vacuum ------------------------------------------------------------------------------------------


PINS: dict[str, Callable[[Lake], str]] = {
    "publish": lambda lake: f"t@v{catalog.publish(lake, 't@#1').number}",
    "snapshot": lambda lake: f"t@snap:{lake.snapshot('s', ['t@#1']).name}",
    "lease": lambda lake: str(lake.lease("t@#1").snapshots[0].reference),
}
WAYS = pytest.mark.parametrize("way", PINS)


def without_condemnations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the rule that nothing pins what was given up."""
    monkeypatch.setattr(Condemned, "covers", lambda *_: False)


@RULE
@WAYS
def test_vacuum_before_a_pin_is_decided(
    lake: Lake, way: str, before: Callable[..., None], monkeypatch: pytest.MonkeyPatch, *, careful: bool
) -> None:
    """A pin of a state that was cleaned up since it was looked at is refused; without the rule it promises nothing."""
    before(Ledger, "decide", lambda: clean(lake))
    if careful:
        with pytest.raises(NotFoundError) as error:
            PINS[way](lake)
        assert error.value.kind == "version-folded"
        return
    without_condemnations(monkeypatch)
    reference = PINS[way](lake)
    with pytest.raises(LakeError):
        read(lake, reference)


@RULE
@WAYS
def test_pin_before_a_vacuum_deletes(
    lake: Lake, way: str, before: Callable[..., None], monkeypatch: pytest.MonkeyPatch, *, careful: bool
) -> None:
    """What a vacuum has decided to delete, and not yet deleted, can't be pinned; without the rule the pin is lost."""
    outcome = list[str]()

    def pin() -> None:
        try:
            outcome.append(PINS[way](connect(lake.root)))
        except NotFoundError as error:
            outcome.append(error.kind)

    if not careful:
        without_condemnations(monkeypatch)
    before(vacuums, "_delete", pin)
    clean(lake)
    if careful:
        assert outcome == ["version-folded"]
        return
    with pytest.raises(LakeError):
        read(lake, outcome[0])


@RULE
@WAYS
def test_pin_before_a_vacuum_decides(
    lake: Lake, way: str, before: Callable[..., None], monkeypatch: pytest.MonkeyPatch, *, careful: bool
) -> None:
    """A pin that comes while a vacuum looks is kept, since it counts the pins when it decides, not before."""
    references, early, kept = list[str](), lake.state(), vacuums._kept
    before(lifetimes, "save", lambda: references.append(PINS[way](connect(lake.root))))
    if not careful:
        monkeypatch.setattr(vacuums, "_kept", lambda _, dataset, found: kept(early, dataset, found))
    clean(lake)
    if careful:
        assert read(lake, references[0]) == [(1, 0)]
        return
    with pytest.raises(LakeError):
        read(lake, references[0])


@RULE
def test_a_run_that_ends_while_a_vacuum_looks(
    lake: Lake, before: Callable[..., None], monkeypatch: pytest.MonkeyPatch, *, careful: bool
) -> None:
    """Changes after the state that a job has read stay: its cursor, set meanwhile, makes the vacuum look again."""
    target = make_table(lake, "u", SCHEMA)
    run = catalog.start_run(lake, "job", parameters={}, inputs=[lake.read("t@#1")])
    run.__enter__()

    def finish() -> None:
        run.output(target.dataset, target.append(some(1)).table_version)
        run.__exit__(None, None, None)

    before(lifetimes, "save", finish)
    if not careful:
        monkeypatch.setattr(vacuums, "needed_from", lambda *_: None)
    clean(lake)
    numbers = (1, 2, 3)
    if careful:
        assert [read(lake, f"t@#{n}") for n in numbers] == [[(n, 0)] for n in numbers]
        feed = lake.table("t").open().load_cdf(starting_version=2, columns=["id", "_change_type"])
        assert sorted(pa.table(feed.read_all()).column("id").to_pylist()) == [1, 2, 2, 3]
        return
    with pytest.raises(LakeError):
        read(lake, "t@#2")


# -- two vacuums, and what lists files again ----------------------------------------------------------------------


def check_promises(lake: Lake, known: dict[int, Rows]) -> None:
    """Every state that was not given up reads what it held."""
    state, table = lake.state(), lake.table("t")
    condemned = state.get(Condemned, table.dataset.dataset_id)
    for number in range(1, table.version() + 1):
        if condemned is None or not condemned.covers(number):
            assert read(lake, f"t@#{number}") == known[number]


def overtaking(lake: Lake) -> None:
    """Write two versions, publish the first of them, and clean up."""
    other = connect(lake.root)
    for number in (4, 5):
        other.table("t").overwrite(some(number))
    catalog.publish(other, "t@#4")
    clean(lake)


def careless_condemn(lake: Lake, dataset: Dataset, found: Survey) -> tuple[int, ...]:
    """Decide what is given up without a look at what another vacuum decided."""

    def rule(state: State) -> tuple[tuple[int, ...], list[Decision]]:
        kept = vacuums._kept(state, dataset, found)
        value = Condemned(dataset_id=dataset.dataset_id, before=found.before, kept=kept, decided_at=datetime.now(UTC))
        return kept, [Decision.put("version.condemn", value)]

    return lake.ledger.decide(rule).result


@RULE
def test_vacuum_while_another_one_looks(
    lake: Lake, before: Callable[..., None], monkeypatch: pytest.MonkeyPatch, *, careful: bool
) -> None:
    """A vacuum that another one overtook plans anew; without that it takes back what the other one gave up."""
    if not careful:
        monkeypatch.setattr(vacuums, "_condemn", careless_condemn)
    before(lifetimes, "save", lambda: overtaking(lake))
    clean(lake)
    known = {n: [(n, 0)] for n in range(1, 6)}
    if careful:
        check_promises(lake, known)
        assert read(lake, "t@v1") == [(4, 0)]
        return
    with pytest.raises(LakeError):
        check_promises(lake, known)


def test_vacuum_while_another_one_deletes(lake: Lake, before: Callable[..., None]) -> None:
    """A vacuum that another one overtakes between its decision and its deletes takes nothing that stays."""
    before(vacuums, "_delete", lambda: overtaking(lake))
    clean(lake)
    check_promises(lake, {n: [(n, 0)] for n in range(1, 6)})
    assert read(lake, "t@v1") == [(4, 0)]
    clean(lake)
    assert read(lake, "t@v1") == [(4, 0)]
    assert [e.table_version for e in lake.table("t").log()] == [5, 4, 3, 2, 1, 0]


@RULE
def test_restore_during_a_vacuum(
    lake: Lake, before: Callable[..., None], monkeypatch: pytest.MonkeyPatch, *, careful: bool
) -> None:
    """A restore lists files again that a vacuum saw as removed, and that no pin holds any more: it looks again."""
    before(vacuums, "_condemn", lambda: restore(connect(lake.root), "t", "t@#1"))
    if not careful:
        monkeypatch.setattr(vacuums, "_look_again", lambda *_: None)
    clean(lake)
    if careful:
        assert read(lake) == [(1, 0)]
        clean(lake)
        assert read(lake) == [(1, 0)]
        return
    with pytest.raises(LakeError):
        read(lake)


def test_vacuum_during_a_restore(lake: Lake, before: Callable[..., None]) -> None:
    """What is being restored is leased: a vacuum meanwhile keeps it."""
    before(restoring, "own_commit", lambda: clean(lake))
    restore(lake, "t", "t@#1")
    assert read(lake) == [(1, 0)]


# -- publish against delete ---------------------------------------------------------------------------------------


def drop_and_make(lake: Lake) -> None:
    """Delete the dataset and make another one of that name."""
    other = connect(lake.root)
    catalog.delete_dataset(other, "t")
    make_table(other, "t", SCHEMA, reuse_name=True).append(some(9))


@RULE
def test_publish_of_a_dataset_that_is_made_anew(
    lake: Lake, before: Callable[..., None], monkeypatch: pytest.MonkeyPatch, *, careful: bool
) -> None:
    """What was looked at is published only under the name that it still has; else the name would lead to old data."""
    name = lake.state().get(Name, "main.t")
    before(Ledger, "decide", lambda: drop_and_make(lake))
    if careful:
        with pytest.raises(StateError) as error:
            catalog.publish(lake, "t")
        assert error.value.kind == "dataset-replaced"
        assert read(lake) == [(9, 0)]
        return
    monkeypatch.setattr(catalog.versions, "find_name", lambda *_: name)
    catalog.publish(lake, "t")
    assert read(lake) == [(3, 0)]  # not the row of the dataset that has the name


def test_publish_of_a_dataset_that_is_deleted(lake: Lake, before: Callable[..., None]) -> None:
    """A deleted dataset gets no version; one that was brought back does."""

    def drop(*, back: bool) -> None:
        catalog.delete_dataset(connect(lake.root), "t")
        if back:
            catalog.undrop_dataset(connect(lake.root), "t")

    before(Ledger, "decide", lambda: drop(back=False))
    with pytest.raises(StateError) as error:
        catalog.publish(lake, "t")
    assert error.value.kind == "dataset-replaced"
    catalog.undrop_dataset(lake, "t")
    before(Ledger, "decide", lambda: drop(back=True))
    assert catalog.publish(lake, "t").number == 1
    assert read(lake, "t@v1") == [(3, 0)]


def test_publish_while_rows_are_deleted(lake: Lake, before: Callable[..., None]) -> None:
    """What is published is what was looked at and measured, not what the table has become meanwhile."""

    def delete() -> None:
        connect(lake.root).table("t").delete("id = 3")
        clean(lake)

    before(catalog.versions, "_store_metrics", lambda: connect(lake.root).table("t").delete("id = 3"))
    version = catalog.publish(lake, "t")
    clean(lake)
    assert (version.rows, read(lake, "t@v1"), read(lake)) == (1, [(3, 0)], [])
    lake.table("t").append(some(4))
    before(catalog.versions, "_store_metrics", delete)
    assert catalog.publish(lake, "t").rows == 1
    assert read(lake, "t@v2") == [(4, 0)]


# -- optimize against writers -------------------------------------------------------------------------------------


def grow(lake: Lake) -> Lake:
    """Give the table the rows 0 to 5, in three files."""
    table = lake.table("t")
    table.overwrite(some(0, 1))
    for number in (2, 4):
        table.append(some(number, number + 1))
    return lake


WRITES: dict[str, tuple[Callable[[Lake], object], Rows]] = {
    "merge": (
        lambda lake: lake.table("t").merge(some(2, 9, x=7)),
        [*((n, 7 if n == 2 else 0) for n in range(6)), (9, 7)],
    ),
    "delete": (lambda lake: lake.table("t").delete("id in (1, 4)"), [(n, 0) for n in (0, 2, 3, 5)]),
    "append": (lambda lake: lake.table("t").append(some(8)), [(n, 0) for n in (0, 1, 2, 3, 4, 5, 8)]),
    "overwrite": (lambda lake: lake.table("t").overwrite(some(8)), [(8, 0)]),
    "restore": (lambda lake: restore(lake, "t", "t@#2"), [(2, 0)]),
    "optimize": (lambda lake: optimize(lake, "t"), [(n, 0) for n in range(6)]),
}


@pytest.mark.parametrize(
    "moment", [(compaction, "commit_rewrite"), (rewriting, "own_commit")], ids=["written", "looked"]
)
@pytest.mark.parametrize("write", WRITES)
def test_write_during_an_optimize(
    lake: Lake, before: Callable[..., None], write: str, moment: tuple[object, str]
) -> None:
    """What is written while files are rewritten is neither lost nor undone, and no row is there twice.

    It comes before the look at what is still listed, or between that and the commit, where delta-rs decides.
    """
    change, expected = WRITES[write]
    before(*moment, lambda: change(connect(lake.root)))
    grow(lake)
    optimize(lake, "t", sort=True, full=True)
    assert read(lake) == expected


@pytest.mark.parametrize("write", ["merge", "delete", "overwrite"])
def test_write_during_an_optimize_without_the_rule(
    lake: Lake, before: Callable[..., None], monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    """Without the look at what is still listed, an optimize brings back what was replaced."""
    change, expected = WRITES[write]
    early = list_files(grow(lake).table("t").open(), "t")

    def blind(*_: object) -> object:
        return early

    def then() -> None:
        change(connect(lake.root))
        monkeypatch.setattr(rewriting, "list_files", blind)

    before(compaction, "commit_rewrite", then)
    optimize(lake, "t", sort=True, full=True)
    assert read(lake) != expected


def test_two_upkeeps(root: str, before: Callable[..., None]) -> None:
    """Of two that merge the small files of a table of ours at the same time one does it, and each row is there once."""
    lake = make_lake(root)
    for number in range(4):
        lake.facts.append("metrics", METRIC, (f"test-{number}", 0))

    def other() -> None:
        upkeep.tend(connect(root).storage, "_system/metrics", {})

    before(small_files, "write_files", other)
    upkeep.tend(lake.storage, "_system/metrics", {})
    found = connect(root).facts.snapshot("metrics")
    assert found is not None
    assert (found.num_rows, found.to_arrow().num_rows, len(found.file_list)) == (4, 4, 1)


def test_what_upkeep_does_not_use(root: str) -> None:
    """delta-rs' own compaction doubles the rows when two processes merge the same files: look again when it does not."""
    lake = make_lake(root)
    for number in range(4):
        lake.facts.append("metrics", METRIC, (f"test-{number}", 0))
    tables = [open_delta(lake.storage, "_system/metrics", "metrics") for _ in range(2)]
    for table in tables:
        table.optimize.compact()
    assert lake.facts.snapshot("metrics").num_rows == 8  # type: ignore[union-attr]


def test_optimize_during_a_merge(lake: Lake, before: Callable[..., None]) -> None:
    """A merge whose files were rewritten meanwhile starts over."""
    grow(lake)
    before(merging, "execute", lambda: optimize(connect(lake.root), "t"))
    lake.table("t").merge(some(2, 9, x=7))
    assert read(lake) == WRITES["merge"][1]


def test_vacuum_during_an_optimize(lake: Lake, before: Callable[..., None]) -> None:
    """Files that an optimize reads may be given up meanwhile: it looks again."""

    def go_on() -> None:
        other = connect(lake.root)
        other.table("t").overwrite(some(1, 2, 3, x=1))
        other.table("t").append(some(4, x=1))
        clean(lake)

    before(compaction, "write_parts", go_on)
    optimize(grow(lake), "t", sort=True, full=True)
    assert read(lake) == [(n, 1) for n in (1, 2, 3, 4)]
