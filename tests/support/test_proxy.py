"""The proxy itself: what a test may conclude from it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.support.proxy import Action, FaultyProxy
from tests.support.s3 import S3Server

pytestmark = pytest.mark.s3


def store_at(endpoint: str, server: S3Server, prefix: str, *, retries: int = 0) -> S3Store:
    """Return a store that talks to `endpoint`."""
    return S3Store(
        server.bucket,
        prefix=prefix,
        endpoint=endpoint,
        access_key_id=server.key,
        secret_access_key=server.secret,
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": retries},
    )


@pytest.fixture
def prefix(s3_uri: str) -> str:
    """A fresh key prefix."""
    return s3_uri.rpartition("/")[2]


def on_first_put(action: Action) -> Callable[[str, str, int], Action]:
    """Return the policy that treats the first PUT of each key so, and passes the rest."""
    return lambda method, path, count: action if method == "PUT" and count == 1 else "pass"


def test_passes_everything_by_default(s3_env: S3Server, prefix: str) -> None:
    """A signed put, get, range read, head, listing and delete work through it as without it."""
    payload = os.urandom(3_000_000)
    with FaultyProxy(s3_env.endpoint, lambda method, path, count: "pass") as proxy:
        store = store_at(proxy.endpoint, s3_env, prefix)
        obstore.put(store, "one with space", payload)
        assert bytes(obstore.get(store, "one with space").bytes()) == payload
        assert bytes(obstore.get_range(store, "one with space", start=10, end=20)) == payload[10:20]
        assert obstore.head(store, "one with space")["size"] == len(payload)
        assert [entry["path"] for entry in obstore.list(store).collect()] == ["one with space"]
        obstore.delete(store, "one with space")
        with pytest.raises(FileNotFoundError):
            obstore.head(store, "one with space")
        assert proxy.count("pass") == len(proxy.exchanges) >= 7


def test_dropped_response_is_processed(s3_env: S3Server, prefix: str) -> None:
    """The client sees an error, and the object is there all the same."""
    direct = store_at(s3_env.endpoint, s3_env, prefix)
    with FaultyProxy(s3_env.endpoint, on_first_put("drop_response")) as proxy:
        with pytest.raises(BaseError):
            obstore.put(store_at(proxy.endpoint, s3_env, prefix), "key", b"value", mode="create")
        assert [(e.action, e.status) for e in proxy.exchanges] == [("drop_response", 200)]
    assert bytes(obstore.get(direct, "key").bytes()) == b"value"


@pytest.mark.parametrize("action", ["503", "reset"])
def test_refused_request_is_not_processed(s3_env: S3Server, prefix: str, action: Action) -> None:
    """The client sees an error, and the server has never seen the request."""
    direct = store_at(s3_env.endpoint, s3_env, prefix)
    with FaultyProxy(s3_env.endpoint, on_first_put(action)) as proxy:
        with pytest.raises(BaseError):
            obstore.put(store_at(proxy.endpoint, s3_env, prefix), "key", b"value")
        assert [(e.action, e.status) for e in proxy.exchanges] == [(action, None)]
    with pytest.raises(FileNotFoundError):
        obstore.head(direct, "key")


def test_broken_bodies_are_not_taken_for_whole(s3_env: S3Server, prefix: str) -> None:
    """A body that breaks off is an error or is asked for again, and a slow one arrives."""
    payload = os.urandom(300_000)
    obstore.put(store_at(s3_env.endpoint, s3_env, prefix), "key", payload)
    actions = iter(["cut", "slow"])
    with FaultyProxy(s3_env.endpoint, lambda method, path, count: next(actions, "pass")) as proxy:  # type: ignore[arg-type, return-value]
        store = store_at(proxy.endpoint, s3_env, prefix)
        with contextlib.suppress(BaseError):
            assert bytes(obstore.get(store, "key").bytes()) == payload
        assert bytes(obstore.get(store, "key").bytes()) == payload
        assert [e.action for e in proxy.exchanges][:2] == ["cut", "slow"]


def test_retry_gets_through(s3_env: S3Server, prefix: str) -> None:
    """The policy counts per method and key, so that a client's second try of the same key can pass."""
    with FaultyProxy(s3_env.endpoint, on_first_put("503")) as proxy:
        obstore.put(store_at(proxy.endpoint, s3_env, prefix, retries=2), "key", b"value")
        assert [e.action for e in proxy.exchanges] == ["503", "pass"]
