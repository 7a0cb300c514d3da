"""The catalog: every decision about datasets - made, recorded, asked for later.

import catalog
catalog.create_dataset(lake, "vision.photos", schema, key=["path"])
catalog.publish(lake, "vision.photos", data_tag="FINAL")
"""

from catalog.assets import find_assets, read_asset
from catalog.cleanup import CleanUp, vacuum
from catalog.datasets import adopt_dataset, create_dataset, delete_dataset, list_datasets, show_dataset, undrop_dataset
from catalog.forks import Fork, fork_dataset
from catalog.health import Check, Status, doctor, status
from catalog.holds import list_holds, release_hold, set_hold
from catalog.lineage import Edge, Run, lineage, start_run
from catalog.milestones import define_milestone, list_milestones, publish_milestone, show_milestone
from catalog.pins import list_snapshots, pinned_by
from catalog.retention import Expiry, KeptVersion, expire
from catalog.schemas import check_schema, evolve_schema, export_schema, list_schemas, show_schema
from catalog.verification import Problem, VerifyReport, verify
from catalog.versions import list_tags, list_versions, publish, remove_tag, set_tag
from lakehouse.restoring import restore

__all__ = [
    "Check",
    "CleanUp",
    "Edge",
    "Expiry",
    "Fork",
    "KeptVersion",
    "Problem",
    "Run",
    "Status",
    "VerifyReport",
    "adopt_dataset",
    "check_schema",
    "create_dataset",
    "define_milestone",
    "delete_dataset",
    "doctor",
    "evolve_schema",
    "expire",
    "export_schema",
    "find_assets",
    "fork_dataset",
    "lineage",
    "list_datasets",
    "list_holds",
    "list_milestones",
    "list_schemas",
    "list_snapshots",
    "list_tags",
    "list_versions",
    "pinned_by",
    "publish",
    "publish_milestone",
    "read_asset",
    "release_hold",
    "remove_tag",
    "restore",
    "set_hold",
    "set_tag",
    "show_dataset",
    "show_milestone",
    "show_schema",
    "start_run",
    "status",
    "undrop_dataset",
    "vacuum",
    "verify",
]
