"""Access control: what grants allow, what they hide, and how people prove who they are."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import catalog
import jobs
import lakehouse
from lakehouse.access import Role, Scope, check, role_in
from lakehouse.decisions import Grant, Token
from lakehouse.errors import AccessDeniedError, InvalidInputError, LakeError, NotFoundError, StateError
from lakehouse.lake import Lake
from lakehouse.storage import Storage
from lakehouse.visibility import visible
from tests.support.access import as_actor, controlled_lake, kind_of
from tests.support.lakes import SCHEMA, make_lake, make_table, read, rows


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lake of `root` with vision.photos and hr.salaries, both published, where access is controlled; ada is known."""
    return controlled_lake(root_uri)


@pytest.fixture
def ada(lake: Lake) -> Lake:
    """The same lake as ada, who may read the namespace vision."""
    catalog.grant(lake, "ada", "reader", "vision.*")
    return as_actor(lake, "ada")


def test_off_means_everybody(tmp_path: Path) -> None:
    """Before it is switched on, and after it is switched off, nobody needs a grant."""
    lake = make_lake(str(tmp_path / "lake"), actor="root")
    other = as_actor(lake, "somebody")
    make_table(other, "vision.photos", SCHEMA, key=["id"])
    catalog.set_access(lake, True)
    assert kind_of(lambda: other.read("vision.photos")) == "dataset-not-found"
    catalog.set_access(lake, False)
    other.table("vision.photos").append(rows((1, "a", 0.5)))
    assert read(other, "vision.photos") == [(1, "a", 0.5)]


def test_who_switches_it_on_is_an_admin(tmp_path: Path) -> None:
    """There is always an admin: the one who switched it on, until he makes somebody else one."""
    lake = make_lake(str(tmp_path / "lake"), actor="root")
    info = catalog.set_access(lake, True)
    assert (info.enabled, [(g.grant.role, g.scope) for g in info.grants]) == (True, [("admin", "*")])
    for last in (
        lambda: catalog.revoke(lake, "root", "*"),
        lambda: catalog.grant(lake, "root", "reader", "*"),
        lambda: catalog.remove_principal(lake, "ROOT"),
    ):
        assert kind_of(last) == "last-admin"
    catalog.add_principal(lake, "ada")
    catalog.grant(lake, "ada", "admin", "*")
    catalog.remove_principal(lake, "root")
    assert kind_of(lambda: catalog.set_access(lake, False)) == "access-denied"
    assert catalog.set_access(as_actor(lake, "ada"), False).enabled is False


def test_nothing_without_a_grant(lake: Lake) -> None:
    """Whom nothing was granted sees nothing, in lists, searches, views and SQL alike."""
    ada = as_actor(lake, "ada")
    assert catalog.list_datasets(ada) == []
    assert catalog.search(ada, "photos").total == 0
    for view in ("datasets", "versions", "schemas", "pins", "readable"):
        assert ada.sql(f"from lake.{view}").fetchall() == []
    assert kind_of(lambda: ada.sql('from "vision.photos@v1"')) == "dataset-not-found"


def test_a_reader_reads(ada: Lake) -> None:
    """A reader of a namespace reads it in Python and SQL, and changes nothing."""
    assert read(ada, "vision.photos@v1") == [(1, "a", 0.5), (2, "b", 1.5)]
    assert ada.sql("select count(*) from vision.photos").fetchall() == [(2,)]
    assert [d.dataset.full_name for d in catalog.list_datasets(ada)] == ["vision.photos"]
    assert ada.sql("select dataset from lake.versions").fetchall() == [("vision.photos",)]
    assert kind_of(lambda: ada.table("vision.photos").append(rows((3, "c", 0.5)))) == "access-denied"
    assert kind_of(lambda: catalog.publish(ada, "vision.photos")) == "access-denied"


def test_the_error_says_how_to_get_it(ada: Lake) -> None:
    """A refusal names the operation, the dataset, the role that is missing and the command that grants it."""
    with pytest.raises(AccessDeniedError) as caught:
        catalog.publish(ada, "vision.photos")
    assert caught.value.message == (
        "ada may not do version.publish on vision.photos: that needs the role publisher, and ada has only reader there. "
        "An admin grants it with: lakehouse grant add ada publisher vision.photos"
    )
    assert caught.value.context == {
        "actor": "ada",
        "action": "version.publish",
        "resource": "vision.photos",
        "role": "publisher",
    }
    assert pickle.loads(pickle.dumps(caught.value)).context == caught.value.context


def test_what_is_hidden_is_like_what_is_not_there(ada: Lake) -> None:
    """No error tells a name that exists from one that does not, nor suggests a hidden one."""

    def told(call: object, name: str) -> str:
        with pytest.raises(LakeError) as caught:
            call(name)  # type: ignore[operator]
        assert "salaries" not in caught.value.message.replace(name, "?")
        return caught.value.message.replace(name, "?")

    for call in (
        ada.read,
        lambda name: ada.table(name),
        lambda name: ada.sql(f'from "{name}"'),
        lambda name: catalog.publish(ada, name),
        lambda name: catalog.set_hold(ada, name, "mine"),
        lambda name: catalog.set_tag(ada, f"{name}@v1", "prod"),
        lambda name: catalog.set_metadata(ada, name, {"a": "b"}),
        lambda name: catalog.delete_dataset(ada, name),
        lambda name: catalog.create_dataset(ada, name, SCHEMA),
        lambda name: catalog.grant(ada, "ada", "reader", name),
        lambda name: catalog.define_milestone(ada, "vision.m", members=[name]),
        lambda name: jobs.ingest(ada, "nowhere.csv", dataset=name),
    ):
        assert told(call, "hr.salaries") == told(call, "hr.salariez").replace("hr.salariez", "hr.salaries")


def test_runs_and_their_records_are_hidden(lake: Lake, tmp_path: Path) -> None:
    """Runs, lineage, rejects and statistics of hidden datasets are in no view."""
    (tmp_path / "s.csv").write_text("id,name,size\n3,c,0.5\nx,d,0.5\n")
    for name in ("vision.photos", "hr.salaries"):
        jobs.ingest(lake, tmp_path / "s.csv", dataset=name)
        catalog.statistics(lake, f"{name}@v1")
        catalog.run_checks(lake, f"{name}@v1")
    catalog.grant(lake, "ada", "reader", "vision.*")
    ada = as_actor(lake, "ada")
    for view, column in (("rejects", "dataset"), ("column_stats", "dataset"), ("lineage", "output_dataset")):
        assert set(ada.sql(f"select {column} from lake.{view}").fetchall()) == {("vision.photos",)}, view
        assert len(lake.sql(f"select distinct {column} from lake.{view}").fetchall()) == 2, view
    runs = ada.sql("select outputs from lake.runs where job = 'ingest'").fetchall()
    assert len(runs) == 1
    assert "salaries" not in str(runs)
    assert "salaries" not in str(catalog.lineage(ada, "vision.photos"))


def test_grants_follow_the_dataset(lake: Lake) -> None:
    """A grant on a dataset stays when it is renamed, and when it is dropped and made again; it reaches no other one."""
    make_table(lake, "vision.other", SCHEMA)
    catalog.grant(lake, "ada", "writer", "vision.photos")
    ada = as_actor(lake, "ada")
    catalog.rename_dataset(lake, "vision.photos", "vision.pictures")
    ada.table("vision.pictures").append(rows((3, "c", 0.5)))
    assert [g.scope for g in catalog.list_grants(ada)] == ["vision.pictures"]
    catalog.delete_dataset(lake, "vision.pictures")
    make_table(lake, "vision.pictures", SCHEMA, key=["id"], reuse_name=True)
    ada.table("vision.pictures").append(rows((4, "d", 0.5)))
    assert read(ada, "vision.pictures") == [(4, "d", 0.5)]
    assert kind_of(lambda: ada.read("vision.other")) == "dataset-not-found"
    assert lake.sql("select scope from lake.grants where principal = 'ada'").fetchall() == [("vision.pictures",)]


def test_an_admin_of_a_namespace_grants_there(lake: Lake) -> None:
    """Who is an admin of a namespace lets others into it, and into nothing else."""
    catalog.add_principal(lake, "bob")
    catalog.grant(lake, "ada", "admin", "vision.*")
    ada, bob = as_actor(lake, "ada"), as_actor(lake, "bob")
    catalog.grant(ada, "bob", "reader", "vision.photos")
    assert read(bob, "vision.photos@v1")
    assert [(g.grant.principal, g.scope) for g in catalog.list_grants(ada)] == [
        ("ada", "vision.*"),
        ("bob", "vision.photos"),
    ]
    assert kind_of(lambda: catalog.grant(ada, "bob", "reader", "hr.*")) == "access-denied"
    assert kind_of(lambda: catalog.grant(ada, "bob", "admin", "*")) == "access-denied"
    assert kind_of(lambda: catalog.grant(ada, "nobody", "reader", "vision.*")) == "principal-not-found"
    catalog.revoke(ada, "bob", "vision.photos")
    assert kind_of(lambda: bob.read("vision.photos")) == "dataset-not-found"


def test_a_role_was_taken_back_meanwhile(lake: Lake) -> None:
    """A decision and a revoked grant never cross: who lost the role before the commit does not commit."""
    catalog.grant(lake, "ada", "publisher", "vision.*")
    ada = as_actor(lake, "ada")
    version = catalog.publish(ada, "vision.photos")
    seen = ada.state()
    catalog.revoke(lake, "ada", "vision.*")
    assert seen.viewer == "ada"
    before = lake.state().seq
    assert kind_of(lambda: catalog.set_tag(ada, f"vision.photos@v{version.number}", "prod")) == "dataset-not-found"
    assert lake.state().seq == before


def test_a_milestone_completes_itself(lake: Lake) -> None:
    """Who may publish one member completes the milestone of others, without seeing the other members."""
    catalog.define_milestone(lake, "hr.spring", members=["vision.photos", "hr.salaries"], data_tags=["FINAL"])
    catalog.publish(lake, "hr.salaries", data_tag="FINAL")
    catalog.grant(lake, "ada", "publisher", "vision.*")
    ada = as_actor(lake, "ada")
    catalog.publish(ada, "vision.photos", data_tag="FINAL")
    assert lake.milestone("hr.spring/v1").version.published_by == "ada"
    assert catalog.list_milestones(ada) == []
    assert ada.sql("from Milestone").fetchall() == []
    assert kind_of(lambda: ada.milestone("hr.spring/v1")) == "milestone-not-found"
    assert kind_of(lambda: ada.read("vision.photos@hr.spring/v1")) == "milestone-not-found"


def test_a_milestone_needs_its_members_to_be_readable(lake: Lake) -> None:
    """A publisher of one namespace can't make others' datasets members, nor join them."""
    catalog.grant(lake, "ada", "publisher", "vision.*")
    ada = as_actor(lake, "ada")
    catalog.define_milestone(ada, "vision.spring", members=["vision.photos"])
    assert kind_of(lambda: catalog.join_milestone(ada, "vision.spring", "hr.salaries")) == "dataset-not-found"
    assert ada.milestone("vision.spring/v1").sql("select count(*) from vision.photos").fetchall() == [(2,)]


def test_own_snapshots(ada: Lake, lake: Lake) -> None:
    """A reader pins what it trains on, and lets it go again; not what others pinned."""
    ada.snapshot("mine", ["vision.photos@v1"])
    lake.snapshot("theirs", ["vision.photos@v1"])
    assert kind_of(lambda: ada.delete_snapshot("theirs")) == "access-denied"
    ada.delete_snapshot("mine")


def test_a_clean_up_needs_an_admin_of_everything(lake: Lake) -> None:
    """Who does not see every pin can't clean up: an admin of the namespace alone is refused, also for a dry run."""
    catalog.grant(lake, "ada", "admin", "vision.*")
    ada = as_actor(lake, "ada")
    assert kind_of(lambda: catalog.vacuum(ada, "vision.photos", dry_run=True)) == "access-denied"
    assert catalog.expire(ada, "vision.photos", keep_last=1).expired == ()


def test_who_read_what_is_for_admins(lake: Lake, ada: Lake) -> None:
    """One sees one's own reads; those of others an admin of the dataset sees, before and after they are folded."""
    for reader in (lake, ada):
        reader.read("vision.photos@v1")
        reader.reads.flush()
    lake.read("hr.salaries@v1")
    for _ in ("spooled", "folded"):
        assert {r.actor for r in catalog.audit_reads(ada)} == {"ada"}
        assert {(r.actor, r.dataset) for r in catalog.audit_reads(lake)} >= {
            ("root", "vision.photos"),
            ("ada", "vision.photos"),
            ("root", "hr.salaries"),
        }
    catalog.grant(lake, "ada", "admin", "vision.*")
    assert {(r.actor, r.dataset) for r in catalog.audit_reads(ada)} == {
        ("root", "vision.photos"),
        ("ada", "vision.photos"),
    }
    assert kind_of(lambda: catalog.verify_audit(ada)) == "access-denied"
    assert catalog.verify_audit(lake).ok


def test_tokens(lake: Lake, ada: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token proves who acts until it expires or is revoked; its text is stored nowhere."""
    made = catalog.create_token(ada, expires="1d", description="laptop")
    monkeypatch.setenv("LAKEHOUSE_TOKEN", made.text)
    assert lakehouse.connect(lake.root).actor == "ada"
    monkeypatch.delenv("LAKEHOUSE_TOKEN")
    assert lakehouse.connect(lake.root, token=f" {made.text}\n").actor == "ada"
    secret = made.text.split("_", 2)[2]
    assert secret not in str(lake.ledger.history().to_pylist())
    assert secret not in repr(made)
    for wrong in (made.text[:-1] + ("a" if made.text[-1] != "a" else "b"), "nonsense", f"lh_{'0' * 12}_{secret}"):
        assert kind_of(lambda wrong=wrong: lakehouse.connect(lake.root, token=wrong)) == "token-invalid"
    assert [t.token_id for t in catalog.list_tokens(ada)] == [made.token.token_id]
    catalog.revoke_token(ada, made.token.token_id)
    assert kind_of(lambda: lakehouse.connect(lake.root, token=made.text)) == "token-revoked"
    assert lake.sql("select principal, revoked_at is not null from lake.tokens").fetchall() == [("ada", True)]


def test_a_token_makes_none_that_outlives_it(lake: Lake, ada: Lake) -> None:
    """Who acts by a token makes shorter ones of his own, and others for others; a service makes none."""
    made = catalog.create_token(ada, expires="30d")
    by_token = lakehouse.connect(lake.root, token=made.text)
    assert catalog.create_token(by_token, expires="29d").token.principal == "ada"
    assert kind_of(lambda: catalog.create_token(by_token, expires="31d")) == "token-outlives"
    assert catalog.create_token(ada, expires="31d").token.principal == "ada"
    admin = lakehouse.connect(lake.root, token=catalog.create_token(lake, expires="1d").text)
    catalog.add_principal(admin, "robot", kind="service")
    robot = lakehouse.connect(lake.root, token=catalog.create_token(admin, "robot", expires="2d").text)
    assert kind_of(lambda: catalog.create_token(robot, expires="1h")) == "access-denied"
    catalog.grant(admin, "robot", "admin", "*")
    assert catalog.create_token(robot, expires="1h").token.principal == "robot"


def test_a_token_expires(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired token is refused, and so is one that would expire at once."""
    assert kind_of(lambda: catalog.create_token(lake, "ada", expires="0d")) == "span-invalid"
    monkeypatch.setattr("catalog.tokens.parse_span", lambda *_: timedelta(seconds=-1))
    made = catalog.create_token(lake, "ada")
    assert kind_of(lambda: lakehouse.connect(lake.root, token=made.text)) == "token-expired"


def test_a_removed_principal(lake: Lake, ada: Lake) -> None:
    """Who is removed loses grants and tokens at once; the name made anew has neither."""
    made = catalog.create_token(ada)
    catalog.remove_principal(lake, "Ada")
    assert kind_of(lambda: lakehouse.connect(lake.root, token=made.text)) == "token-invalid"
    catalog.add_principal(lake, "ada")
    assert catalog.list_datasets(as_actor(lake, "ada")) == []
    assert list(lake.state().all(Token)) == []


def test_a_name_proves_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where access is controlled, $LAKEHOUSE_ACTOR alone is refused."""
    monkeypatch.setenv("LAKEHOUSE_ACTOR", "root")
    assert kind_of(lambda: lakehouse.connect(lake.root)) == "actor-unproven"
    catalog.set_access(lake, False)
    assert lakehouse.connect(lake.root).actor == "root"


def test_bad_input(lake: Lake) -> None:
    """Roles, scopes, principals and operations that are none are named in the error."""
    assert kind_of(lambda: catalog.grant(lake, "ada", "owner", "vision.*")) == "role-unknown"
    assert kind_of(lambda: catalog.grant(lake, "adda", "reader", "vision.*")) == "principal-not-found"
    assert kind_of(lambda: catalog.grant(lake, "ada", "reader", "vision")) == "dataset-not-found"
    assert kind_of(lambda: catalog.grant(lake, "ada", "reader", "lake.*")) == "name-reserved"
    assert kind_of(lambda: catalog.add_principal(lake, "a b")) == "principal-invalid"
    assert kind_of(lambda: catalog.add_principal(lake, "ADA")) == "principal-exists"
    assert kind_of(lambda: catalog.revoke(lake, "ada", "hr.*")) == "grant-not-found"
    assert kind_of(lambda: catalog.may(lake, "ada", "version.publsh", "vision.*")) == "operation-unknown"
    assert kind_of(lambda: catalog.revoke_token(lake, "0" * 12)) == "token-not-found"


def test_may(lake: Lake, ada: Lake) -> None:
    """Permissions can be asked for: one's own, and as an admin of the scope anybody's."""
    assert catalog.may(ada, "ada", "data.read", "vision.photos").allowed
    told = catalog.may(lake, "ada", "version.publish", "vision.photos")
    assert (told.allowed, told.needs, told.has, told.where) == (False, "publisher", "reader", "vision.photos")
    assert catalog.may(lake, "ada", "data_tag.set", "vision.*").where == "*"
    with pytest.raises(AccessDeniedError, match=r"Only an admin of vision\.\* may ask"):
        catalog.may(ada, "root", "data.read", "vision.*")
    assert told.controlled
    catalog.set_access(lake, False)
    assert catalog.may(lake, "ada", "version.publish", "vision.photos").controlled is False


ROLES = st.sampled_from([role.word for role in Role])
SCOPES = st.sampled_from(["*", "vision.*", "hr.*", "vision.photos", "hr.salaries"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), ROLES, SCOPES),
        st.tuples(st.just("revoke"), st.just(""), SCOPES),
        st.tuples(st.just("publish"), st.just(""), st.sampled_from(["vision.photos", "hr.salaries"])),
        st.tuples(st.just("create"), st.just(""), st.sampled_from(["vision", "hr", "text"])),
        st.tuples(st.just("tag"), st.just(""), st.sampled_from(["vision.photos", "hr.salaries"])),
    ),
    max_size=8,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_what_is_seen_follows_what_is_decided(steps: list[tuple[str, str, str]], tmp_path_factory: object) -> None:
    """The state that somebody sees, moved on step by step, is the one that a fresh look gives."""
    folder = tmp_path_factory.mktemp("seen")  # type: ignore[attr-defined]
    lake = make_lake(str(folder), actor="root")
    for name in ("vision.photos", "hr.salaries"):
        make_table(lake, name, SCHEMA)
    catalog.set_access(lake, True)
    catalog.add_principal(lake, "ada")
    ada = as_actor(lake, "ada")
    for number, (step, role, what) in enumerate(steps):
        if step == "grant":
            catalog.grant(lake, "ada", role, what)
        elif step == "revoke":
            if any(g.scope == what for g in catalog.list_grants(lake, principal="ada")):
                catalog.revoke(lake, "ada", what)
        elif step == "publish":
            catalog.publish(lake, what)
        elif step == "create":
            make_table(lake, f"{what}.d{number}", SCHEMA)
        elif catalog.list_versions(lake, what):
            catalog.set_tag(lake, f"{what}@latest", "prod")
        moved = sorted(ada.state().raw())
        assert moved == sorted(visible(Lake(Storage.open(str(folder)), "root").state(), "ada").raw())


def test_the_largest_role_counts(lake: Lake) -> None:
    """Roles of a scope and of those around it add up to the largest."""
    catalog.grant(lake, "ada", "reader", "*")
    catalog.grant(lake, "ADA", "publisher", "vision.*")
    state = lake.state()
    assert [role_in(state, "Ada", Scope(ns)) for ns in ("vision", "VISION", "hr")] == [
        Role.PUBLISHER,
        Role.PUBLISHER,
        Role.READER,
    ]
    assert [g.principal for g in state.all(Grant)] == ["root", "ada", "ada"]
    with pytest.raises(AccessDeniedError):
        check(state, "ada", "rows.append", [Scope("hr")])


def test_errors_have_their_classes(lake: Lake) -> None:
    """Errors say by their class what the caller can do."""
    ada = as_actor(lake, "ada")
    with pytest.raises(NotFoundError):
        ada.read("vision.photos")
    with pytest.raises(InvalidInputError):
        catalog.grant(lake, "ada", "king", "*")
    with pytest.raises(StateError):
        catalog.revoke(lake, "root", "*")
    with pytest.raises(AccessDeniedError):
        catalog.create_dataset(ada, "vision.x", pa.schema([("a", pa.int64())]))
