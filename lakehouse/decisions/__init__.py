"""What the ledger decides about: one frozen value per thing, and its JSON form.

A decision puts the new value of one thing (or None to remove it) under its entity and key; the current state is
the last decision of each. Values hold identities (dataset id, table version), names of things and counts, never
values of rows: those must stay erasable.
"""

from lakehouse.decisions.datasets import DATA_TAGS, Dataset, DatasetVersion, DataTag, Format, Name, Tag, system_dataset
from lakehouse.decisions.milestones import Milestone, MilestoneVersion
from lakehouse.decisions.pins import Condemned, Cursor, Hold, Lease, Member, NamedSnapshot
from lakehouse.decisions.schemas import Column, Compatibility, Misfits, SchemaVersion
from lakehouse.decisions.value import Decision, Value

__all__ = [
    "DATA_TAGS",
    "Column",
    "Compatibility",
    "Condemned",
    "Cursor",
    "DataTag",
    "Dataset",
    "DatasetVersion",
    "Decision",
    "Format",
    "Hold",
    "Lease",
    "Member",
    "Milestone",
    "MilestoneVersion",
    "Misfits",
    "Name",
    "NamedSnapshot",
    "SchemaVersion",
    "Tag",
    "Value",
    "system_dataset",
]
