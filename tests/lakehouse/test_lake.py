"""The lake: who acts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lakehouse.lake import init


def test_a_user_without_a_name_is_an_actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the user id has no name, as in many containers, the actor is the id; `$LAKEHOUSE_ACTOR` still wins."""
    for name in ("LAKEHOUSE_ACTOR", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987_654_321)
    assert init(tmp_path).actor == "uid-987654321"
    monkeypatch.setenv("LAKEHOUSE_ACTOR", "ann")
    assert init(tmp_path).actor == "ann"
