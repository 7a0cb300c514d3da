"""A lake where access is controlled, and its people."""

from __future__ import annotations

import pytest

import catalog
from lakehouse.errors import LakeError
from lakehouse.lake import Lake
from tests.support.lakes import SCHEMA, make_lake, make_table, rows


def controlled_lake(root_uri: str) -> Lake:
    """Return a lake of `root` with vision.photos and hr.salaries, both published, where ada is known and may do nothing."""
    lake = make_lake(root_uri, actor="root")
    for name in ("vision.photos", "hr.salaries"):
        make_table(lake, name, SCHEMA, key=["id"]).append(rows((1, "a", 0.5), (2, "b", 1.5)))
        catalog.publish(lake, name)
    catalog.set_access(lake, True)
    catalog.add_principal(lake, "ada")
    return lake


def as_actor(lake: Lake, name: str) -> Lake:
    """Open the same root as somebody else."""
    return Lake(lake.storage, name)


def kind_of(call: object) -> str:
    """Return the kind of the error that a call ends with."""
    with pytest.raises(LakeError) as caught:
        call()  # type: ignore[operator]
    return caught.value.kind
