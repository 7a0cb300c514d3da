"""Every role times every operation times the own and another namespace, from the code's own list of operations."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

import catalog
import jobs
import lakehouse
from lakehouse.access import OPERATIONS, Role
from lakehouse.compaction import optimize
from lakehouse.decisions import AccessControl, Cursor, Decision, Lease, Token
from lakehouse.errors import AccessDeniedError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.leases import releasing
from tests.support.lakes import SCHEMA, make_lake, make_table, rows

OWN, OTHER = "vision", "hr"
ACTORS: dict[str, Role | None] = {"nobody": None, **{role.word: role for role in Role}}
"""Who was granted what in the own namespace."""
WIDER = pa.schema([*SCHEMA, pa.field("note", pa.string())])


def _decide(lake: Lake, decision: Decision) -> None:
    lake.ledger.decide(lambda state: (None, [decision]))


def _lease(lake: Lake, ns: str) -> Lease:
    return next(v for v in lake.unguarded().state().all(Lease) if v.holder == f"root of {ns}")


def _token(lake: Lake) -> Token:
    return next(lake.unguarded().state().all(Token))


def _cursor(lake: Lake, ns: str) -> Cursor:
    dataset = catalog.show_dataset(lake.unguarded(), f"{ns}.photos").dataset
    ids = {"target": dataset.dataset_id, "dataset_id": dataset.dataset_id}
    return Cursor(job="features", **ids, table_version=1, expires_at=datetime(2100, 1, 1, tzinfo=UTC))


def _access(lake: Lake) -> AccessControl:
    return AccessControl(enabled=True, changed_at=datetime.now(UTC))


RUN: dict[str, Callable[[Lake, str], object]] = {
    "data.read": lambda lake, ns: lake.read(f"{ns}.photos").to_arrow(),
    "rows.append": lambda lake, ns: lake.table(f"{ns}.photos").append(rows((7, "g", 0.5))),
    "rows.overwrite": lambda lake, ns: lake.table(f"{ns}.photos").overwrite(rows((7, "g", 0.5))),
    "rows.merge": lambda lake, ns: lake.table(f"{ns}.photos").merge(rows((7, "g", 0.5))),
    "rows.delete": lambda lake, ns: lake.table(f"{ns}.photos").delete("id = 1"),
    "table.optimize": lambda lake, ns: optimize(lake, f"{ns}.photos", full=True),
    "table.restore": lambda lake, ns: catalog.restore(lake, f"{ns}.photos", "@v1"),
    "lakehouse.init": lambda lake, ns: lake.ledger.create(),
    "dataset.create": lambda lake, ns: catalog.create_dataset(lake, f"{ns}.new", SCHEMA),
    "dataset.fork": lambda lake, ns: catalog.fork_dataset(lake, f"{ns}.photos", f"{ns}.forked"),
    "dataset.query": lambda lake, ns: jobs.create_from_query(lake, f"{ns}.made", f'from "{ns}.photos@v1"'),
    "dataset.copy": lambda lake, ns: catalog.publish(lake, f"{ns}.adopted", copy=True),
    "dataset.adopt": lambda lake, ns: catalog.adopt_dataset(lake, f"{ns}.found", f"{lake.root}/../external/free"),
    "dataset.delete": lambda lake, ns: catalog.delete_dataset(lake, f"{ns}.photos"),
    "dataset.undrop": lambda lake, ns: catalog.undrop_dataset(lake, f"{ns}.dropped"),
    "dataset.rename": lambda lake, ns: catalog.rename_dataset(lake, f"{ns}.photos", f"{ns}.pictures"),
    "dataset.unalias": lambda lake, ns: catalog.unalias_dataset(lake, f"{ns}.former"),
    "schema.evolve": lambda lake, ns: catalog.evolve_schema(lake, f"{ns}.photos", WIDER),
    "metadata.set": lambda lake, ns: catalog.set_metadata(lake, f"{ns}.photos", {"sensor": "A"}),
    "metadata.remove": lambda lake, ns: catalog.remove_metadata(lake, f"{ns}.photos", ["cost"]),
    "check.add": lambda lake, ns: catalog.add_check(lake, f"{ns}.photos", "not_null", ["name"], name="named"),
    "check.remove": lambda lake, ns: catalog.remove_check(lake, f"{ns}.photos", "whole"),
    "version.publish": lambda lake, ns: catalog.publish(lake, f"{ns}.photos"),
    "version.promote": lambda lake, ns: catalog.promote(lake, f"{ns}.photos@v1", "FINAL"),
    "version.deprecate": lambda lake, ns: catalog.deprecate(lake, f"{ns}.photos@v1", "dark"),
    "version.withdraw": lambda lake, ns: catalog.deprecate(lake, f"{ns}.photos@v1", "dark", withdraw=True),
    "version.undeprecate": lambda lake, ns: catalog.undeprecate(lake, f"{ns}.photos@v2"),
    "version.expire": lambda lake, ns: catalog.expire(lake, f"{ns}.aged", keep_last=1),
    "version.condemn": lambda lake, ns: catalog.vacuum(lake, f"{ns}.aged", keep_for="0"),
    "tag.set": lambda lake, ns: catalog.set_tag(lake, f"{ns}.photos@v2", "prod"),
    "tag.remove": lambda lake, ns: catalog.remove_tag(lake, f"{ns}.photos", "prod"),
    "data_tag.set": lambda lake, ns: catalog.set_data_tag(lake, "GOLD", "IS_GOLD", "Gold"),
    "data_tag.remove": lambda lake, ns: catalog.remove_data_tag(lake, "FINAL"),
    "snapshot.create": lambda lake, ns: lake.snapshot("new", [f"{ns}.photos@v1"]),
    "snapshot.delete": lambda lake, ns: lake.delete_snapshot(f"{ns}-run"),
    "lease.give": lambda lake, ns: lake.lease([f"{ns}.photos"]),
    "lease.release": lambda lake, ns: lake.ledger.decide(lambda s: (None, releasing(s, _lease(lake, ns).name))),
    "lease.end": lambda lake, ns: _decide(lake, Decision.remove("lease.end", _lease(lake, ns))),
    "cursor.set": lambda lake, ns: _decide(lake, Decision.put("cursor.set", _cursor(lake, ns))),
    "cursor.end": lambda lake, ns: _decide(lake, Decision.remove("cursor.end", _cursor(lake, ns))),
    "hold.set": lambda lake, ns: catalog.set_hold(lake, f"{ns}.photos", "a lawsuit"),
    "hold.release": lambda lake, ns: catalog.release_hold(lake, f"{ns}.held"),
    "retention.set": lambda lake, ns: catalog.set_retention(lake, f"{ns}.photos", keep_last=3),
    "retention.remove": lambda lake, ns: catalog.remove_retention(lake, f"{ns}.held"),
    "milestone.define": lambda lake, ns: catalog.define_milestone(lake, f"{ns}.new", members=[f"{ns}.photos"]),
    "milestone.join": lambda lake, ns: catalog.join_milestone(lake, f"{ns}.spring", f"{ns}.aged"),
    "milestone.leave": lambda lake, ns: catalog.leave_milestone(lake, f"{ns}.spring", f"{ns}.held"),
    "milestone.protect": lambda lake, ns: catalog.protect_milestone(lake, f"{ns}.spring"),
    "milestone.publish": lambda lake, ns: catalog.publish_milestone(lake, f"{ns}.manual"),
    "milestone.archive": lambda lake, ns: catalog.archive_milestone(lake, f"{ns}.spring/v1"),
    "milestone.unarchive": lambda lake, ns: catalog.unarchive_milestone(lake, f"{ns}.gone/v1"),
    "milestone.pending": lambda lake, ns: list(catalog.aggregate(lake)),
    "milestone.ready": lambda lake, ns: list(catalog.aggregate(lake)),
    "milestone.settle": lambda lake, ns: list(catalog.aggregate(lake)),
    "subscription.create": lambda lake, ns: catalog.subscribe(
        lake, "new", "http://127.0.0.1:9/", milestone=f"{ns}.spring"
    ),
    "subscription.delete": lambda lake, ns: catalog.unsubscribe(lake, f"{ns}-hook"),
    "access.on": lambda lake, ns: _decide(lake, Decision.put("access.on", _access(lake))),
    "access.off": lambda lake, ns: catalog.set_access(lake, False),
    "principal.add": lambda lake, ns: catalog.add_principal(lake, "newcomer"),
    "principal.remove": lambda lake, ns: catalog.remove_principal(lake, "guest"),
    "grant.add": lambda lake, ns: catalog.grant(lake, "nobody", "reader", f"{ns}.photos"),
    "grant.remove": lambda lake, ns: catalog.revoke(lake, "guest", f"{ns}.*"),
    "token.create": lambda lake, ns: catalog.create_token(lake, "guest"),
    "audit.verify": lambda lake, ns: catalog.verify_audit(lake),
    "token.revoke": lambda lake, ns: catalog.revoke_token(lake, _token(lake).token_id),
}
"""How each operation is done in a namespace, through the calls that people make."""


def _fill(lake: Lake, ns: str) -> None:
    for name in ("photos", "aged", "held", "dropped", "former"):
        table = make_table(lake, f"{ns}.{name}", SCHEMA, key=["id"])
        table.append(rows((1, "a", 0.5), (2, "b", 0.5)))
        catalog.publish(lake, f"{ns}.{name}")
        table.append(rows((3, "c", 0.5)))
        catalog.publish(lake, f"{ns}.{name}")
    catalog.adopt_dataset(lake, f"{ns}.adopted", f"{lake.root}/../external/{ns}")
    catalog.delete_dataset(lake, f"{ns}.dropped")
    catalog.rename_dataset(lake, f"{ns}.former", f"{ns}.named")
    catalog.deprecate(lake, f"{ns}.photos@v2", "blurred")
    catalog.set_metadata(lake, f"{ns}.photos", {"cost": "4711"})
    catalog.add_check(lake, f"{ns}.photos", "not_null", ["id"], name="whole")
    catalog.set_tag(lake, f"{ns}.photos@v1", "prod")
    catalog.set_hold(lake, f"{ns}.held", "a lawsuit")
    catalog.set_retention(lake, f"{ns}.held", keep_last=2)
    lake.snapshot(f"{ns}-run", [f"{ns}.photos@v1"])
    lake.lease([f"{ns}.photos"], holder=f"root of {ns}")
    for name, policy in (("spring", "automatic"), ("gone", "automatic"), ("manual", "manual")):
        catalog.define_milestone(lake, f"{ns}.{name}", members=[f"{ns}.photos", f"{ns}.held"], policy=policy)
    catalog.archive_milestone(lake, f"{ns}.gone/v1")
    catalog.subscribe(lake, f"{ns}-hook", "http://127.0.0.1:9/", milestone=f"{ns}.spring")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a lake of two namespaces, where each role was granted in one of them."""
    folder = tmp_path_factory.mktemp("matrix")
    for name in (OWN, OTHER, "free"):
        write_deltalake(folder / "external" / name, rows((1, "a", 0.5)))
    lake = make_lake(str(folder / "lake"), actor="root")
    for ns in (OWN, OTHER):
        _fill(lake, ns)
    catalog.set_access(lake, True)
    for name, role in ACTORS.items():
        catalog.add_principal(lake, name)
        if role is not None:
            catalog.grant(lake, name, role.word, f"{OWN}.*")
    catalog.add_principal(lake, "guest")
    for ns in (OWN, OTHER):
        catalog.grant(lake, "guest", "reader", f"{ns}.*")
    catalog.create_token(lake, "guest")
    return folder


def _allowed(action: str, role: Role | None, ns: str) -> bool:
    operation = OPERATIONS[action]
    if operation.role is None:
        return True
    return ns == OWN and not operation.is_global and role is not None and role >= operation.role


def test_every_operation_is_tried() -> None:
    """No operation can be added to the code's list without saying here how it is done."""
    assert set(RUN) == set(OPERATIONS)


@pytest.mark.parametrize("action", OPERATIONS)
def test_matrix(action: str, template: Path, tmp_path: Path) -> None:
    """Each role may do exactly what the list says, in its own namespace alone; what is refused changes nothing."""
    for ns in (OWN, OTHER):
        for name, role in ACTORS.items():
            if _allowed(action, role, ns):
                folder = tmp_path / f"{ns}-{name}"
                shutil.copytree(template, folder)
                RUN[action](lakehouse.connect(folder / "lake", actor=name), ns)
                continue
            lake = lakehouse.connect(template / "lake", actor=name)
            free = lake.unguarded()
            before = free.state().seq, free.read(f"{ns}.photos").table_version
            with pytest.raises((AccessDeniedError, NotFoundError)) as caught:
                RUN[action](lake, ns)
            assert caught.value.kind == "access-denied" or caught.value.kind.endswith("-not-found"), caught.value
            assert before == (free.state().seq, free.read(f"{ns}.photos").table_version), f"{name} in {ns}"


@pytest.mark.parametrize("action", OPERATIONS)
def test_admin_of_the_lakehouse(action: str, template: Path, tmp_path: Path) -> None:
    """An admin of the whole lakehouse may do every operation everywhere."""
    shutil.copytree(template, tmp_path / "all")
    RUN[action](lakehouse.connect(tmp_path / "all" / "lake", actor="root"), OTHER)
