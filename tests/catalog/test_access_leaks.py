"""What somebody with a small role could find out or do all the same: each of these ways was open once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import catalog
import jobs
import lakehouse
from lakehouse.decisions import Dataset, Lease, Milestone
from lakehouse.errors import AccessDeniedError, LakeError, StateError
from lakehouse.lake import Lake
from lakehouse.sweep import find_lost_tables, sweep_lost_tables
from tests.support.access import as_actor, controlled_lake, kind_of
from tests.support.lakes import SCHEMA, make_lake, make_table, read, rows

PLACES = pa.schema([("uri", pa.string()), ("offset", pa.int64()), ("length", pa.int64())])


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lake of `root` with vision.photos and hr.salaries, both published, where access is controlled; ada is known."""
    return controlled_lake(root_uri)


@pytest.fixture
def ada(lake: Lake) -> Lake:
    """The same lake as ada, who is an admin of the namespace vision."""
    catalog.grant(lake, "ada", "admin", "vision.*")
    return as_actor(lake, "ada")


def told_by(call: object) -> str:
    """Return all that the error says with which a call ends."""
    with pytest.raises(LakeError) as caught:
        call()  # type: ignore[operator]
    return f"{caught.value.message} {caught.value.context}"


def test_asking_what_one_may_tells_no_names(lake: Lake) -> None:
    """`may` answers of a hidden dataset, and of a former name of one, as of a name that was never used."""
    make_table(lake, "hr.former", SCHEMA)
    catalog.rename_dataset(lake, "hr.former", "hr.named")
    ada = as_actor(lake, "ada")
    asked = [catalog.may(ada, "ada", "data.read", f"hr.{name}") for name in ("salaries", "former", "nothing")]
    assert [a.where for a in asked] == ["hr.*"] * 3


def test_aggregation_tells_nothing_of_hidden_milestones(lake: Lake, ada: Lake) -> None:
    """Naming a hidden milestone moves nothing on, and its name is no suggestion."""
    catalog.define_milestone(lake, "hr.spring", members=["hr.salaries"], policy="manual")
    for name in ("hr.spring", "hr.sprin"):
        assert kind_of(lambda name=name: list(catalog.aggregate(ada, [name]))) == "milestone-not-found"
        assert "'hr.spring'" not in told_by(lambda: list(catalog.aggregate(ada, ["hr.sprin"])))


def test_a_hidden_milestone_is_not_replaced(lake: Lake, ada: Lake) -> None:
    """Who does not see a milestone of his own namespace, as it has a hidden member, can't define it anew."""
    catalog.define_milestone(lake, "vision.mixed", members=["vision.photos", "hr.salaries"], description="merger")
    before = lake.state().get(Milestone, "vision.mixed")
    said = told_by(lambda: catalog.define_milestone(ada, "vision.mixed", members=["vision.photos"]))
    assert "salaries" not in said
    assert kind_of(lambda: catalog.define_milestone(ada, "vision.mixed", members=["vision.photos"])) == "access-denied"
    assert lake.state().get(Milestone, "vision.mixed") == before


def test_reasons_that_are_hidden_are_not_told(lake: Lake, ada: Lake) -> None:
    """Where something hidden is in the way, the error keeps its kind and names nothing."""
    check = {"to": "vision.photos"}
    catalog.add_check(lake, "hr.salaries", "foreign_key", ["id"], parameters=check, name="secret", severity="warning")
    catalog.rename_dataset(ada, "vision.photos", "vision.pictures")
    with pytest.raises(StateError) as caught:
        catalog.unalias_dataset(ada, "vision.photos")
    assert caught.value.kind == "alias-used"
    assert "salaries" not in f"{caught.value.message} {caught.value.context}"
    location = next(d.location for d in lake.state().all(Dataset) if d.full_name == "hr.salaries")
    place = f"{lake.root}/{location}"
    assert "salaries." not in told_by(lambda: catalog.adopt_dataset(ada, "vision.stolen", place))
    catalog.add_principal(lake, "bobby")
    assert "bobby" not in told_by(lambda: catalog.grant(ada, "bobbi", "reader", "vision.*"))


def test_failed_runs_tell_no_names(lake: Lake, ada: Lake) -> None:
    """A run that was to write a hidden dataset, and wrote nothing, is not seen by those who see what it read."""
    with pytest.raises(StateError):
        catalog.fork_dataset(lake, "vision.photos", "hr.salaries")
    assert len(lake.sql("from lake.runs").fetchall()) == 1
    assert ada.sql("from lake.runs").fetchall() == []
    with pytest.raises(StateError):
        catalog.fork_dataset(ada, "vision.photos", "vision.photos")
    assert ada.sql("select actor from lake.runs").fetchall() == [("ada",)]


def test_old_decisions_tell_no_names(lake: Lake, ada: Lake) -> None:
    """What a milestone said while it had a hidden member is not in the audit of those who see it since."""
    catalog.define_milestone(lake, "vision.old", members=["vision.photos", "hr.salaries"], policy="manual")
    catalog.leave_milestone(lake, "vision.old", "hr.salaries")
    entries = catalog.audit_log(ada, "vision.old")
    assert "milestone.leave" in {e.action for e in entries}
    assert "salaries" not in str(entries)
    assert "salaries" in str(catalog.audit_log(lake, "vision.old"))


def test_deliveries_are_for_those_who_see_the_subscription(lake: Lake, ada: Lake) -> None:
    """The record of notifications names hidden milestones to nobody who does not see the subscription."""
    catalog.subscribe(lake, "all", "http://127.0.0.1:9/")
    catalog.define_milestone(lake, "hr.spring", members=["hr.salaries"])
    assert catalog.notify(lake)
    assert catalog.list_deliveries(ada) == []
    assert [d.subscription for d in catalog.list_deliveries(lake)] == ["all"]


def test_logs_tell_no_names(lake: Lake, ada: Lake, caplog: pytest.LogCaptureFixture) -> None:
    """A hidden milestone that can't move on is not named in the log of who published another member."""
    caplog.set_level(logging.WARNING)
    links = ["vision.photos.id -> hr.salaries.id"]
    catalog.define_milestone(lake, "hr.vault", members=["vision.photos", "hr.salaries"], links=links)
    location = next(d.location for d in lake.state().all(Dataset) if d.full_name == "hr.salaries")
    lake.storage.delete([o.key for o in lake.storage.list(location)])
    ada.table("vision.photos").append(rows((3, "c", 0.5)))
    catalog.publish(as_actor(lake, "ada"), "vision.photos")
    assert "may not read was left for a later run" in caplog.text
    assert "hr." not in caplog.text


def test_expiry_sees_what_is_hidden_and_names_it_not(lake: Lake, ada: Lake) -> None:
    """A hidden snapshot keeps a version, in a dry run as in earnest, and is not named."""
    lake.snapshot("merger", ["vision.photos@v1", "hr.salaries@v1"])
    lake.table("vision.photos").append(rows((3, "c", 0.5)))
    catalog.publish(lake, "vision.photos")
    for dry in (True, False):
        found = catalog.expire(ada, "vision.photos", keep_last=1, dry_run=dry)
        assert (found.expired, [k.why for k in found.kept]) == ((), [("something that ada may not read",)])
    assert [k.why for k in catalog.expire(lake, "vision.photos", keep_last=1).kept] == [("snap:merger",)]


def test_an_admin_of_a_namespace_expires_all_of_it(lake: Lake, ada: Lake) -> None:
    """Without a name all that he sees is looked at, and nothing else."""
    for name in ("vision.photos", "hr.salaries"):
        lake.table(name).append(rows((3, "c", 0.5)))
        catalog.publish(lake, name)
    found = catalog.expire(ada, None, keep_last=1)
    assert [(v.full_name, v.number) for v in found.expired] == [("vision.photos", 1)]
    assert lake.read("hr.salaries@v1").num_rows == 2


def test_own_leases_end(lake: Lake) -> None:
    """Whoever was given a lease ends it, whatever he called its holder: a writer's restore leaves none behind."""
    catalog.grant(lake, "ada", "writer", "vision.photos")
    ada = as_actor(lake, "ada")
    ada.table("vision.photos").append(rows((3, "c", 0.5)))
    catalog.restore(ada, "vision.photos", "@v1")
    with ada.lease("vision.photos", holder="training"):
        assert len(list(lake.state().all(Lease))) == 1
    assert list(lake.state().all(Lease)) == []


def test_a_roll_back_is_all_or_nothing(lake: Lake, ada: Lake) -> None:
    """Who may not restore one member of a milestone restores none."""
    catalog.define_milestone(lake, "vision.both", members=["vision.photos", "hr.salaries"])
    for name in ("vision.photos", "hr.salaries"):
        lake.table(name).append(rows((3, "c", 0.5)))
    catalog.grant(lake, "ada", "reader", "hr.*")
    before = read(ada, "vision.photos")
    assert kind_of(lambda: catalog.roll_back_milestone(ada, "vision.both/v1")) == "access-denied"
    assert read(ada, "vision.photos") == before


def test_sql_opens_no_other_files(lake: Lake, ada: Lake, tmp_path: Path) -> None:
    """SQL of those who may not read everything opens the files of what they may read, and no others."""
    location = next(d.location for d in lake.state().all(Dataset) if d.full_name == "hr.salaries")
    files = [lake.storage.uri(o.key) for o in lake.storage.list(location) if o.key.endswith(".parquet")]
    ledger = [lake.storage.uri(o.key) for o in lake.storage.list("_system/ledger") if o.key.endswith(".parquet")]
    (tmp_path / "x.csv").write_text("a\n1\n")
    ada.sql('from "vision.photos@v1"').fetchall()
    for path in (files[0], ledger[0], str(tmp_path / "x.csv")):
        for query in (f"from '{path}'", f"from read_blob('{path}')"):
            assert kind_of(lambda query=query: ada.sql(query).fetchall()) in ("sql-invalid", "dataset-not-found")
    assert kind_of(lambda: ada.sql(f"copy (select 1) to '{tmp_path}/y.csv'")) == "sql-unsupported"
    assert kind_of(lambda: ada.sql("set enable_external_access = true")) == "sql-invalid"
    session = ada.session()
    session.query("create temp table mine as from vision.photos")
    assert session.query("select count(*) from mine join vision.photos using (id)").fetchall() == [(2,)]
    session.close()
    lake.sql(f"copy (from hr.salaries) to '{tmp_path}/z.csv'")
    assert (tmp_path / "z.csv").is_file()


def test_checks_open_no_files(lake: Lake, ada: Lake) -> None:
    """A check, which others run and whose samples its owner sees, reads datasets alone."""
    location = next(d.location for d in lake.state().all(Dataset) if d.full_name == "hr.salaries")
    file = next(lake.storage.uri(o.key) for o in lake.storage.list(location) if o.key.endswith(".parquet"))
    stolen = {"query": f"from read_parquet('{file}')"}
    assert kind_of(lambda: catalog.add_check(ada, "vision.photos", "sql", parameters=stolen, name="x")) == "sql-invalid"
    fine = {"query": "select * from vision.photos where id = 1"}
    catalog.add_check(ada, "vision.photos", "sql", parameters=fine, name="fine", severity="warning")
    assert [r.failures for r in catalog.run_checks(lake, "vision.photos")] == [1]


def test_rows_lead_to_no_bytes_of_others(lake: Lake, tmp_path: Path) -> None:
    """A row that a writer wrote leads to stored bytes of its own namespace, not to others' or to the ledger."""
    image = pytest.importorskip("PIL.Image").new("RGB", (8, 8), (1, 2, 3))
    (tmp_path / "images").mkdir()
    image.save(tmp_path / "images" / "a.png")
    for name in ("hr.scans", "vision.scans"):
        jobs.ingest(lake, tmp_path / "images", dataset=name)
    theirs, own = (lake.read(name).to_arrow().to_pylist()[0] for name in ("hr.scans", "vision.scans"))
    catalog.grant(lake, "ada", "writer", "vision.*")
    ada = as_actor(lake, "ada")
    catalog.create_dataset(ada, "vision.spy", PLACES)

    def spied(uri: str, offset: int) -> list[bytes]:
        given = pa.table({"uri": [uri], "offset": [offset], "length": [8]}, PLACES)
        ada.table("vision.spy").overwrite(given)
        return [asset.data for asset in ada.read("vision.spy").assets()]

    assert spied(own["uri"], own["offset"])[0].startswith(b"\x89PNG")
    ledger = next(o.key for o in lake.storage.list("_system/ledger") if o.key.endswith(".parquet"))
    whole = lake.storage.uri(theirs["uri"])
    whole = f"file://{whole}" if whole.startswith("/") else whole
    for uri, offset in ((theirs["uri"], theirs["offset"]), (ledger, 0), (whole, theirs["offset"])):
        assert kind_of(lambda uri=uri, offset=offset: spied(uri, offset)) == "asset-location-invalid"


def test_names_in_the_environment_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither $USER nor $LOGNAME says who acts, and `init` takes no word either that `connect` refuses."""
    root = str(tmp_path / "lake")
    lake = make_lake(root, actor="root of it")
    catalog.set_access(make_lake(root, actor="boss"), True)
    code = f"import lakehouse; print(lakehouse.connect({root!r}).actor)"
    env = os.environ | dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "boss")
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() != "boss"
    monkeypatch.setenv("LAKEHOUSE_ACTOR", "boss")
    assert kind_of(lambda: lakehouse.init(lake.root)) == "actor-unproven"
    monkeypatch.delenv("LAKEHOUSE_ACTOR")
    token = catalog.create_token(as_actor(lake, "boss"))
    monkeypatch.setenv("LAKEHOUSE_TOKEN", token.text)
    assert lakehouse.init(lake.root).actor == "boss"


def test_an_empty_name_or_token_is_nobody(tmp_path: Path) -> None:
    """What was left empty by mistake, as by a service, is refused and does not stand for the system's user."""
    root = make_lake(str(tmp_path / "lake"), actor="root").root
    assert kind_of(lambda: lakehouse.connect(root, token="")) == "token-invalid"
    assert kind_of(lambda: lakehouse.connect(root, actor="")) == "actor-missing"
    with pytest.raises(LakeError):
        Lake(lakehouse.connect(root).storage, "")


def test_a_clean_up_judges_by_all_decisions(lake: Lake, ada: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lost his role while he cleans up takes away nothing that he does not see any more."""
    catalog.grant(lake, "ada", "admin", "*")
    ada.check("version.condemn")
    catalog.revoke(lake, "ada", "*")
    never = timedelta(days=-1)  # everything is old
    monkeypatch.setattr("lakehouse.sweep.check_age", lambda _: None)
    for call in (find_lost_tables, sweep_lost_tables):
        with suppress(AccessDeniedError):  # it depends on how long ago he lost it
            assert call(ada, never).keys == ()
    assert read(lake, "hr.salaries") == [(1, "a", 0.5), (2, "b", 1.5)]


def test_a_reader_adds_no_columns(lake: Lake) -> None:
    """Columns of a table are changed by writers alone, by whatever call."""
    catalog.grant(lake, "ada", "reader", "vision.*")
    table = as_actor(lake, "ada").table("vision.photos")
    wider = pa.schema([pa.field("note", pa.string())])
    assert kind_of(lambda: table.add_columns(table.open(), wider, None, None)) == "access-denied"
    assert lake.read("vision.photos").schema.names == SCHEMA.names


def test_subscribers_are_told_of_what_they_may_read(lake: Lake, ada: Lake) -> None:
    """A milestone that got a hidden member is told of no more to who subscribed before, and he sees no subscription."""
    catalog.define_milestone(lake, "vision.spring", members=["vision.photos"], policy="manual")
    catalog.subscribe(ada, "hers", "http://127.0.0.1:9/", milestone="vision.spring")
    catalog.join_milestone(lake, "vision.spring", "hr.salaries")
    assert catalog.list_subscriptions(ada) == []
    assert ada.state().viewer == "ada"
    catalog.publish_milestone(lake, "vision.spring")
    assert catalog.notify(lake) == []
    catalog.grant(lake, "ada", "reader", "hr.*")
    assert [d.event for d in catalog.notify(lake)] == ["milestone.published-vision.spring/v1"]
    assert [s.name for s in catalog.list_subscriptions(ada)] == ["hers"]
