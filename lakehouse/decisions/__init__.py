"""What the ledger decides about: one frozen value per thing, and its JSON form.

A decision puts the new value of one thing (or None to remove it) under its entity and key; the current state is
the last decision of each. Values hold identities (dataset id, table version), names of things and counts, never
values of rows: those must stay erasable.
"""

from lakehouse.decisions.access import AccessControl, Grant, Principal, RoleName, Token
from lakehouse.decisions.checks import CheckDefinition
from lakehouse.decisions.datasets import DATA_TAGS, Dataset, DatasetVersion, DataTag, Format, Name, Tag, system_dataset
from lakehouse.decisions.metadata import Metadata
from lakehouse.decisions.milestones import Link, Milestone, MilestoneVersion, PendingVersion, Proof, Waiting
from lakehouse.decisions.pins import Condemned, Cursor, Hold, Lease, Member, NamedSnapshot
from lakehouse.decisions.retention import RetentionPolicy
from lakehouse.decisions.schemas import Column, Compatibility, Misfits, SchemaVersion
from lakehouse.decisions.subscriptions import Subscription
from lakehouse.decisions.value import Decision, Value

__all__ = [
    "DATA_TAGS",
    "AccessControl",
    "CheckDefinition",
    "Column",
    "Compatibility",
    "Condemned",
    "Cursor",
    "DataTag",
    "Dataset",
    "DatasetVersion",
    "Decision",
    "Format",
    "Grant",
    "Hold",
    "Lease",
    "Link",
    "Member",
    "Metadata",
    "Milestone",
    "MilestoneVersion",
    "Misfits",
    "Name",
    "NamedSnapshot",
    "PendingVersion",
    "Principal",
    "Proof",
    "RetentionPolicy",
    "RoleName",
    "SchemaVersion",
    "Subscription",
    "Tag",
    "Token",
    "Value",
    "Waiting",
    "system_dataset",
]
