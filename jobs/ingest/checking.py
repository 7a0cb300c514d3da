"""What an ingest would make of a tabular file, without taking it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from jobs.ingest.tabular import TableOptions, open_table
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake
from lakehouse.references import parse_name


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
    warnings: dict[str, str]
    """Findings that keep nothing out: {code: what was found}."""


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
    try:
        with open_table(path, options, schema, key) as source:
            rows = sum(batch.num_rows for batch in source.batches())
            codes = Counter(reject.code for reject in source.rejects() if not reject.flagged)
            warnings = {finding.code: finding.detail for finding in source.findings}
    except InvalidInputError as error:
        return FileCheck(name, str(path), error.kind, error.message, 0, {}, {})
    return FileCheck(name, str(path), None, "", rows, dict(sorted(codes.items())), warnings)
