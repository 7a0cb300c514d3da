"""Notifications over a real HTTP server: what is told, that it is signed, and that a receiver that is down loses nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import catalog
from catalog import notifications
from lakehouse.errors import InvalidInputError, NotFoundError, StateError
from lakehouse.lake import Lake
from tests.support.lakes import make_lake, make_table

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise imports it


@dataclass
class Receiver:
    """What a receiver got, and what it answers."""

    url: str = ""
    status: int = 200
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def kinds(self) -> list[str]:
        """Return the kinds of events that it got."""
        return [json.loads(body)["type"] for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(made.status)
            if made.status == 302:
                self.send_header("location", made.url + "elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A milestone of two datasets that are linked."""
    lake = make_lake(str(tmp_path / "lake"))
    make_table(lake, "a", pa.schema([("id", pa.int64())])).append(pa.table({"id": [1]}))
    make_table(lake, "b", pa.schema([("a", pa.int64())])).append(pa.table({"a": [1]}))
    catalog.define_milestone(lake, "m", ["a", "b"], links=["b.a -> a.id"])
    return lake


def publish(lake: Lake, *names: str) -> None:
    """Publish datasets."""
    for name in names:
        catalog.publish(lake, name, data_tag="FINAL")


def test_publication_is_told_once(lake: Lake, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publication is told once to who subscribed before it, signed as Standard Webhooks says."""
    monkeypatch.setenv("HOOK_KEY", "whsec_" + base64.b64encode(b"our key").decode())
    catalog.subscribe(lake, "team", receiver.url, secret_env="HOOK_KEY")
    publish(lake, "a", "b")
    assert [d.ok for d in catalog.notify(lake)] == [True]
    assert catalog.notify(lake) == []
    [(headers, body)] = receiver.got
    message = json.loads(body)
    assert (message["type"], message["data"]["reference"]) == ("milestone.published", "main.m/v1")
    assert [d["version"] for d in message["data"]["datasets"]] == [1, 1]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"our key", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    catalog.subscribe(lake, "late", receiver.url)
    assert catalog.notify(lake) == []


def test_a_receiver_that_is_down_loses_nothing(lake: Lake, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not taken is tried again after a pause, with the same id, until it is; every attempt is recorded."""
    catalog.subscribe(lake, "team", receiver.url)
    publish(lake, "a", "b")
    receiver.status = 503
    assert [(d.ok, d.status) for d in catalog.notify(lake)] == [(False, 503)]
    assert catalog.notify(lake) == []  # a minute has to pass
    [tried] = catalog.list_deliveries(lake)
    assert tried.next_at == tried.at + timedelta(minutes=1)
    assert notifications.retries(lake) == [tried.next_at]
    monkeypatch.setattr(notifications, "_FIRST_PAUSE", timedelta(0))
    receiver.status = 302
    assert [(d.ok, d.status) for d in catalog.notify(lake)] == [(False, 302)]
    receiver.status = 204
    assert [d.ok for d in catalog.notify(lake)] == [True]
    assert catalog.notify(lake) == []
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert [(d.ok, d.next_at) for d in catalog.list_deliveries(lake, "TEAM")] == [
        (True, None),
        (False, None),
        (False, None),
    ]
    assert notifications.retries(lake) == []


def test_no_answer_and_no_key(lake: Lake, receiver: Receiver) -> None:
    """A receiver that does not exist, or a key that is not set, is a failed attempt that says why."""
    catalog.subscribe(lake, "nobody", "http://127.0.0.1:9/")
    catalog.subscribe(lake, "keyless", receiver.url, secret_env="NO_SUCH_KEY")
    publish(lake, "a", "b")
    found = {d.subscription: d for d in catalog.notify(lake)}
    assert (found["nobody"].ok, found["nobody"].status) == (False, None)
    assert found["nobody"].error == "ConnectionRefusedError: Connection refused"
    assert "$NO_SUCH_KEY is not set" in (found["keyless"].error or "")
    assert receiver.got == []


def test_kinds(lake: Lake, receiver: Receiver) -> None:
    """A member that does not fit, a version that is ready, one that is late, and one that broke are told."""
    catalog.subscribe(lake, "team", receiver.url)
    publish(lake, "a", "b")
    lake.table("b").append(pa.table({"a": [77_077]}))
    publish(lake, "b")
    catalog.notify(lake, overdue=timedelta(0))
    assert receiver.kinds() == ["milestone.published", "milestone.failed", "milestone.overdue"]
    assert not any(b"77077" in body for _, body in receiver.got)
    lake.table("b").delete("a = 77077")
    catalog.define_milestone(lake, "m", ["a", "b"], policy="manual")
    publish(lake, "b")
    catalog.notify(lake)
    assert receiver.kinds()[3:] == ["milestone.ready"]
    for file in lake.read("a@v1").files():
        Path(file).unlink()
    catalog.verify(lake)
    catalog.notify(lake)
    assert receiver.kinds()[4:] == ["milestone.unreadable"]


def test_only_some(lake: Lake, receiver: Receiver) -> None:
    """A subscription to some kinds, or to one milestone, is told of nothing else."""
    catalog.define_milestone(lake, "n", ["a"])
    catalog.subscribe(lake, "ready", receiver.url, events=["milestone.ready"])
    catalog.subscribe(lake, "n", receiver.url, milestone="n")
    publish(lake, "a", "b")
    assert {d.event for d in catalog.notify(lake)} == {"milestone.published-main.n/v1"}


def test_channels(lake: Lake, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel of Apprise is told like a webhook, tried again, and on record; a URL in a variable is shown nowhere."""
    there = receiver.url.replace("http://", "json://")
    monkeypatch.setenv("TEAM_URL", there.replace("json://", "json://ada:pa55word@"))
    catalog.subscribe(lake, "open", there)
    catalog.subscribe(lake, "closed", "json://", secret_env="TEAM_URL")
    publish(lake, "a", "b")
    receiver.status = 503
    assert [(d.ok, d.error) for d in catalog.notify(lake)] == [(False, "the channel did not take it")] * 2
    assert catalog.notify(lake) == []  # a minute has to pass
    monkeypatch.setattr(notifications, "_FIRST_PAUSE", timedelta(0))
    receiver.status = 200
    assert [d.ok for d in catalog.notify(lake)] == [True, True]
    assert catalog.notify(lake) == []
    body = json.loads(receiver.got[-1][1])
    assert body["title"] == "main.m/v1: a version was published"
    assert "dataset: main.a\n  version: 1\n" in body["message"]
    assert sorted("authorization" in headers for headers, _ in receiver.got[2:]) == [False, True]
    assert "pa55word" not in str([*lake.state().raw(), *catalog.list_deliveries(lake)])


def test_channels_without_their_url(lake: Lake, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set, or holds another or an incomplete URL, is a failed attempt that does not tell it."""
    for name, value in (("OTHER", receiver.url), ("HALF", "slack://abc"), ("NONE", "")):
        monkeypatch.setenv(name, value)
        catalog.subscribe(lake, name, "slack://", secret_env=name)
    publish(lake, "a", "b")
    assert {d.subscription: (d.ok, d.error) for d in catalog.notify(lake)} == {
        "OTHER": (False, "$OTHER holds no slack:// URL."),
        "HALF": (False, "$HALF holds no complete slack:// URL."),
        "NONE": (False, "$NONE is not set where events are sent from."),
    }


def test_channels_that_are_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL with a secret never reaches the ledger, nor the message that refuses it; without Apprise it says so."""
    for url, secret_env, kind in (
        ("slak://", "X", "url-invalid"),
        ("example.org", "", "url-invalid"),
        ("https://", "", "url-invalid"),
        ("slack://T1/B1/s3cret", "X", "url-invalid"),
        ("mailto://ada:s3cret@example.org", "", "secret-in-url"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/s3cretazkcOXrIdevi7FQ/#general", "", "secret-in-url"),
        ("json://example.org?+X-Token=s3cret", "", "secret-in-url"),
    ):
        with pytest.raises(InvalidInputError) as refused:
            catalog.subscribe(lake, "team", url, secret_env=secret_env)
        assert refused.value.kind == kind, url
        assert "s3cret" not in refused.value.message
    assert catalog.list_subscriptions(lake) == []
    monkeypatch.setitem(sys.modules, "apprise.manager_plugins", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'lakehouse\[notify\]'"):
        catalog.subscribe(lake, "team", "slack://", secret_env="X")


def test_subscriptions(lake: Lake) -> None:
    """What makes no sense is refused; subscriptions are listed and ended."""
    made = catalog.subscribe(lake, "team", "https://example.org/hook")
    assert made.created_at <= datetime.now(UTC)
    with pytest.raises(StateError) as taken:
        catalog.subscribe(lake, "Team", "https://example.org/hook")
    assert taken.value.kind == "subscription-exists"
    for url, events, kind in (
        ("ftp://example.org", [], "url-invalid"),
        ("https://me:key@example.org", [], "secret-in-url"),
        ("https://example.org", ["milestone.gone"], "event-unknown"),
    ):
        with pytest.raises(InvalidInputError) as refused:
            catalog.subscribe(lake, "other", url, events=events)
        assert refused.value.kind == kind
    with pytest.raises(NotFoundError):
        catalog.subscribe(lake, "other", "https://example.org", milestone="nothing")
    assert [s.name for s in catalog.list_subscriptions(lake)] == ["team"]
    catalog.unsubscribe(lake, "TEAM")
    with pytest.raises(NotFoundError) as gone:
        catalog.unsubscribe(lake, "team")
    assert gone.value.kind == "subscription-not-found"
