"""The commands of `lakehouse notify`."""

from __future__ import annotations

from .conftest import Typed


def test_notify(cli: Typed) -> None:
    """A subscription is added, told, listed and removed; a receiver that does not answer is told so and tried again."""
    cli.ok("notify", "add", "team", "http://127.0.0.1:9/", "--event", "milestone.published,milestone.ready")
    [listed] = cli.json("notify", "list")
    assert (listed["name"], listed["events"]) == ("team", ["milestone.published", "milestone.ready"])
    assert "Nothing to deliver" in cli.ok("notify", "send").stderr
    cli.ok("milestone", "define", "m", "pets")
    [tried] = cli.json("notify", "send")
    assert (tried["ok"], tried["event"]) == (False, "milestone.published-main.m/v1")
    told = cli.ok("notify", "send").stderr
    assert "Nothing to deliver now.\n1 event waits for the next attempt, at 20" in told
    assert [(d["ok"], d["next_at"] is None) for d in cli.json("notify", "log", "team")] == [(False, False)]
    assert "next attempt" in cli.ok("notify", "log").stdout
    assert "would remove" in cli.ok("notify", "remove", "team").stdout
    cli.ok("notify", "remove", "team", "--yes")
    assert cli("notify", "remove", "team").code == 3
    assert cli("notify", "remove", "team", "--yes").code == 3
    assert cli("notify", "add", "team", "nowhere").code == 2
