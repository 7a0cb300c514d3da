"""What an ingest would make of a tabular file, without taking it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from catalog.schema_formats import SchemaSpec
from catalog.schemas import Verdict, check_schema
from jobs.ingest.table_schema import INCOMPATIBLE, choices
from jobs.ingest.tabular import TableOptions, open_table
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake
from lakehouse.references import parse_name
from lakehouse.registry import columns_of, current


@dataclass(frozen=True, slots=True)
class FileCheck:
    """Whether a file fits a dataset, and what would be set aside."""

    dataset: str
    file: str
    refused: str | None
    """Kind of the error that refuses the file as a whole; None: it is read."""
    reason: str
    """The error's message; empty when there is none."""
    rows: int
    """Rows that fit."""
    rejects_by_code: dict[str, int]
    """Rows that would become rejects."""
    flagged_by_code: dict[str, int]
    """Values that would be left out of rows that land, as the dataset's policy `flag` says."""
    warnings: dict[str, str]
    """Findings that keep nothing out: {code: what was found}."""
    verdict: Verdict | None = None
    """What the file's columns would mean for the dataset; only of a file that another schema would take."""
    choices: tuple[str, ...] = ()
    """The commands that are left for such a file, besides correcting it."""


def check_file(lake: Lake, dataset: str, path: str | Path, options: TableOptions | None = None) -> FileCheck:
    """Read a tabular file as an ingest into a dataset would; nothing is written. Keys are compared within the file only.

    Args:
        dataset: `[namespace.]name`.
        options: What is declared about the file.
    Raises:
        NotFoundError: dataset-not-found, dataset-deleted; file-not-found.
    """
    table = lake.table(".".join(parse_name(dataset)))
    name, schema, key = table.name, table.schema(), table.dataset.key_columns
    flag = current(lake.state(), table.dataset, schema, lake.actor).misfits == "flag"
    try:
        with open_table(path, options, schema, key, flag=flag) as source:
            rows = sum(batch.num_rows for batch in source.batches())
            codes = Counter((reject.flagged, reject.code) for reject in source.rejects())
            warnings = {finding.code: finding.detail for finding in source.findings}
    except InvalidInputError as error:
        refused = FileCheck(name, str(path), error.kind, error.message, 0, {}, {}, {})
        if error.kind not in INCOMPATIBLE:
            return refused
        return replace(refused, verdict=_verdict(lake, name, path, options), choices=choices(name, path))
    rejected = {code: n for (flagged, code), n in sorted(codes.items()) if not flagged}
    flagged = {code: n for (flagged, code), n in sorted(codes.items()) if flagged}
    return FileCheck(name, str(path), None, "", rows, rejected, flagged, warnings)


def _verdict(lake: Lake, dataset: str, path: str | Path, options: TableOptions | None) -> Verdict | None:
    """Return what the columns of a file would mean for a dataset; None when it can't have them, such as without its key."""
    try:
        with open_table(path, options) as source:
            return check_schema(lake, dataset, SchemaSpec(columns_of(source.schema)))
    except InvalidInputError:
        return None
