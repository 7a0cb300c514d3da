"""Leases: what is leased stays readable, until the reader is done or its time is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import catalog
from lakehouse.decisions import Decision, Lease
from lakehouse.errors import InvalidInputError, NotFoundError
from lakehouse.lake import Lake, connect
from lakehouse.ledger import State
from lakehouse.vacuum import vacuum
from tests.support.lakes import SCHEMA, make_lake, make_table, read, rows


def clean(lake: Lake, name: str = "t") -> None:
    """Give up all history of a dataset that nothing needs."""
    vacuum(lake, lake.table(name).dataset, keep_for=timedelta())


def age(lake: Lake) -> None:
    """Make every lease look as if its time had been over for an hour."""

    def rule(state: State) -> tuple[None, list[Decision]]:
        over = datetime.now(UTC) - timedelta(hours=1)
        old = [Lease(**{f: getattr(v, f) for f in Lease.__slots__} | {"expires_at": over}) for v in state.all(Lease)]
        return None, [Decision.put("test", v) for v in old]

    lake.ledger.decide(rule)


@pytest.fixture
def lake(tmp_path: object) -> Lake:
    """A lake with the dataset `t`: #1 has one row, head (#2) another one."""
    made = make_lake(f"{tmp_path}/lake")
    table = make_table(made, "t", SCHEMA, key=["id"])
    table.append(rows((1, "a", 1.0)))
    table.overwrite(rows((2, "b", 2.0)))
    return made


def test_what_is_leased_stays(root_uri: str) -> None:
    """On every backend a clean-up by another process keeps a leased state, and takes it once the lease has ended."""
    lake = make_lake(root_uri)
    table = make_table(lake, "t", SCHEMA, key=["id"])
    table.append(rows((1, "a", 1.0)))
    with lake.lease("t") as leased:
        table.overwrite(rows((2, "b", 2.0)))
        clean(connect(root_uri))
        assert read(lake, "t@#1") == [(1, "a", 1.0)]
        assert leased.read("t").to_arrow().num_rows == 1
        assert catalog.pinned_by(lake, leased.read("t")) == [f"lease {leased.lease.name}"]
    clean(connect(root_uri))
    with pytest.raises(NotFoundError) as caught:
        lake.read("t@#1")
    assert caught.value.kind == "version-folded"


def test_a_lease_names_its_states(lake: Lake) -> None:
    """Each state is found as it was leased or by its dataset's name, and never moves; others are not given out."""
    make_table(lake, "ns.other", SCHEMA)
    with lake.lease(["t@#1", "ns.other"], holder="trainer") as leased:
        lake.table("ns.other").append(rows((1, "a", 1.0)))
        assert leased.read("T@#1").table_version == leased.read("main.t").table_version == 1
        assert leased.read("ns.other").table_version == 0
        with pytest.raises(NotFoundError, match=r"It holds: main.t@#1, ns.other"):
            leased.read("t@#2")
        assert leased.lease.holder == "trainer"
    with lake.lease(["t@#1", "t"]) as leased:
        assert [leased.read(r).table_version for r in ("t@#1", "t")] == [1, 2]


def test_a_lease_that_ended_keeps_nothing_and_goes(lake: Lake) -> None:
    """After its time a lease pins nothing; the next lease removes it from the ledger, and leaving its context is fine."""
    with lake.lease("t@#1") as leased:
        age(lake)
        clean(lake)
        with pytest.raises(NotFoundError):
            leased.renew()
        with lake.lease("t") as other:
            assert [v.name for v in lake.state().all(Lease)] == [other.lease.name]
    assert list(lake.state().all(Lease)) == []


def test_renew(lake: Lake) -> None:
    """A renewed lease lasts longer; one that had ended is given again while its states are there."""
    with lake.lease("t@#1", hours=1) as leased:
        before = leased.lease.expires_at
        leased.renew(2)
        assert timedelta(hours=0.9) < leased.lease.expires_at - before < timedelta(hours=1.1)
        age(lake)
        leased.renew()
        clean(lake)
        assert read(lake, "t@#1") == [(1, "a", 1.0)]


def test_a_head_that_is_cleaned_up_meanwhile_is_resolved_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a head goes on and is cleaned up before the lease is decided, the lease is on the newer head."""
    decide, other = lake.ledger.decide, connect(lake.root)

    def late(*args: object, **kwargs: object) -> object:
        monkeypatch.undo()
        other.table("t").overwrite(rows((3, "c", 3.0)))
        clean(other)
        return decide(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(lake.ledger, "decide", late)
    with lake.lease("t") as leased:
        assert leased.read("t").to_arrow() == rows((3, "c", 3.0))


def test_a_state_that_is_gone_is_not_leased(lake: Lake) -> None:
    """A state that a clean-up has given up can't be leased."""
    clean(lake)
    with pytest.raises(NotFoundError) as caught:
        lake.lease("t@#1")
    assert caught.value.kind == "version-folded"
    assert list(lake.state().all(Lease)) == []


@pytest.mark.parametrize("hours", [0, -1, 1e9, float("nan")])
def test_a_lease_has_an_end(lake: Lake, hours: float) -> None:
    """A lease needs a positive time that the calendar has."""
    with pytest.raises(InvalidInputError) as caught:
        lake.lease("t", hours=hours)
    assert caught.value.kind == "expires-invalid"


def test_a_lease_needs_a_state(lake: Lake) -> None:
    """A lease on nothing is refused."""
    with pytest.raises(InvalidInputError):
        lake.lease([])
