"""The catalog: every decision about datasets - made, recorded, asked for later.

import catalog
catalog.create_dataset(lake, "vision.photos", schema, key=["path"])
catalog.publish(lake, "vision.photos", data_tag="FINAL")
"""

from catalog.access import (
    AccessInfo,
    GrantInfo,
    Permission,
    add_principal,
    grant,
    list_grants,
    list_principals,
    may,
    remove_principal,
    revoke,
    set_access,
    show_access,
)
from catalog.aggregation import Standing, aggregate
from catalog.assets import find_assets, read_asset
from catalog.check_runs import run_checks
from catalog.check_store import CheckResult
from catalog.checks import Loaded, add_check, check_results, list_checks, load_checks, remove_check
from catalog.cleanup import CleanUp, vacuum
from catalog.data_tags import list_data_tags, remove_data_tag, set_data_tag
from catalog.datasets import adopt_dataset, create_dataset, delete_dataset, list_datasets, show_dataset, undrop_dataset
from catalog.dependents import Dependent, dependents
from catalog.deprecation import deprecate, undeprecate
from catalog.drift import ColumnDrift, drift
from catalog.forks import Fork, fork_dataset
from catalog.health import Check, Status, doctor, status
from catalog.holds import list_holds, release_hold, set_hold
from catalog.lineage import Edge, lineage
from catalog.metadata import list_metadata, remove_metadata, set_metadata
from catalog.milestone_files import load_milestone
from catalog.milestone_history import MemberChange, compare_milestones, roll_back_milestone
from catalog.milestones import (
    archive_milestone,
    define_milestone,
    join_milestone,
    leave_milestone,
    list_milestones,
    milestone_orphans,
    milestone_status,
    protect_milestone,
    publish_milestone,
    show_milestone,
    unarchive_milestone,
)
from catalog.notifications import Delivery, list_deliveries, list_subscriptions, notify, subscribe, unsubscribe
from catalog.openlineage import openlineage_events
from catalog.pins import list_snapshots, pinned_by
from catalog.policies import Retention, list_retention, remove_retention, set_retention
from catalog.promotion import promote
from catalog.renaming import rename_dataset, unalias_dataset
from catalog.retention import Expiry, KeptVersion, expire
from catalog.runs import Run, start_run
from catalog.schemas import check_schema, evolve_schema, export_schema, list_schemas, show_schema
from catalog.search import Hit, SearchResult, search
from catalog.statistics import ColumnStats, statistics
from catalog.tag_history import TagMove, tag_history
from catalog.tokens import NewToken, create_token, list_tokens, revoke_token
from catalog.verification import Problem, VerifyReport, verify
from catalog.versions import list_tags, list_versions, publish, remove_tag, set_tag
from lakehouse.restoring import restore

__all__ = [
    "AccessInfo",
    "Check",
    "CheckResult",
    "CleanUp",
    "ColumnDrift",
    "ColumnStats",
    "Delivery",
    "Dependent",
    "Edge",
    "Expiry",
    "Fork",
    "GrantInfo",
    "Hit",
    "KeptVersion",
    "Loaded",
    "MemberChange",
    "NewToken",
    "Permission",
    "Problem",
    "Retention",
    "Run",
    "SearchResult",
    "Standing",
    "Status",
    "TagMove",
    "VerifyReport",
    "add_check",
    "add_principal",
    "adopt_dataset",
    "aggregate",
    "archive_milestone",
    "check_results",
    "check_schema",
    "compare_milestones",
    "create_dataset",
    "create_token",
    "define_milestone",
    "delete_dataset",
    "dependents",
    "deprecate",
    "doctor",
    "drift",
    "evolve_schema",
    "expire",
    "export_schema",
    "find_assets",
    "fork_dataset",
    "grant",
    "join_milestone",
    "leave_milestone",
    "lineage",
    "list_checks",
    "list_data_tags",
    "list_datasets",
    "list_deliveries",
    "list_grants",
    "list_holds",
    "list_metadata",
    "list_milestones",
    "list_principals",
    "list_retention",
    "list_schemas",
    "list_snapshots",
    "list_subscriptions",
    "list_tags",
    "list_tokens",
    "list_versions",
    "load_checks",
    "load_milestone",
    "may",
    "milestone_orphans",
    "milestone_status",
    "notify",
    "openlineage_events",
    "pinned_by",
    "promote",
    "protect_milestone",
    "publish",
    "publish_milestone",
    "read_asset",
    "release_hold",
    "remove_check",
    "remove_data_tag",
    "remove_metadata",
    "remove_principal",
    "remove_retention",
    "remove_tag",
    "rename_dataset",
    "restore",
    "revoke",
    "revoke_token",
    "roll_back_milestone",
    "run_checks",
    "search",
    "set_access",
    "set_data_tag",
    "set_hold",
    "set_metadata",
    "set_retention",
    "set_tag",
    "show_access",
    "show_dataset",
    "show_milestone",
    "show_schema",
    "start_run",
    "statistics",
    "status",
    "subscribe",
    "tag_history",
    "unalias_dataset",
    "unarchive_milestone",
    "undeprecate",
    "undrop_dataset",
    "unsubscribe",
    "vacuum",
    "verify",
]
