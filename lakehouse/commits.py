"""What every Delta commit of ours has in common: its stamp, its properties, its way of trying again."""

from __future__ import annotations

import random
import re
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from lakehouse.errors import LakeError

R = TypeVar("R")
_REOPENINGS = 5

_PROPERTIES = {
    "delta.checkpointInterval": "50",
    # Nothing cleans the log but our own maintenance, which knows the pins.
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    # Transaction ids only need to outlive a run that is resumed.
    "delta.setTransactionRetentionDuration": "interval 30 days",
}

DATA_PROPERTIES = _PROPERTIES | {"delta.enableChangeDataFeed": "true"}
"""Delta table properties of datasets: the change feed is on from version 0."""

FACT_PROPERTIES = _PROPERTIES | {
    # Checkpoints are made by upkeep, from a table that was opened for it.
    "delta.checkpointInterval": "1000000000",
    # How long checkpoints carry replaced files. Upkeep takes these from the log, so longer would only cost time.
    "delta.deletedFileRetentionDuration": "interval 1 hours",
}
"""Delta table properties of fact tables."""

LEDGER_PROPERTIES = FACT_PROPERTIES | {
    # A decision is tried for some minutes, so its id needs to be known no longer than a machine may sleep meanwhile.
    "delta.setTransactionRetentionDuration": "interval 1 days"
}
"""Delta table properties of the ledger."""


def own_commit(
    app: str,
    number: int,
    *,
    actor: str,
    run: str | None = None,
    message: str | None = None,
    rows_added: int | None = None,
    rows_removed: int | None = None,
    what: str | None = None,
    retries: int,
) -> CommitProperties:
    """Return the properties of one commit, which stamp it so that it can be recognised.

    Args:
        app, number: The application transaction; a writer that lost a response looks for it.
        actor, run, message: Who, for which run, in whose words: kept in the commit's own metadata.
        rows_added, rows_removed: Kept too, where delta-rs does not count them itself.
        what: The operation that the log shows, where delta-rs would call it a mere WRITE.
        retries: How often delta-rs may rebase the commit on others; 0 makes it a compare-and-swap.
    """
    metadata: dict[str, object] = {"user": actor, "run": run, "message": message, "what": what}
    metadata["salt"] = secrets.token_hex(16) if message is not None else None  # see `commit_chain`
    metadata |= {"rows_added": rows_added, "rows_removed": rows_removed}
    return CommitProperties(
        custom_metadata={k: str(v) for k, v in metadata.items() if v is not None},
        app_transactions=[Transaction(app_id=app, version=number)],
        max_commit_retries=retries,
    )


_HOPELESS = re.compile(r"unsupported table features|denied|forbidden|\b403\b|no space left|quota")
_TRANSIENT = re.compile(
    r"conflict|concurrent|already exists|timeout|timed out|connection|connect error|error sending request|response body"
    r"|\bdns\b|transport|\b50[0234]\b|slow ?down"
)
_GONE = re.compile(r"not found|no such file|nosuchkey|data-missing|file-missing|object-not-found")
# What delta-rs says when the log was folded under a handle that had been opened before, or a checkpoint was replaced by
# a smaller one between the look at its size and the reading.
_FOLDED = re.compile(
    r"invalid table version|found gap|invalid checkpoint|logsegment end version|parquet( argument)? error"
    r"|not found\b.*_delta_log/[0-9]{20}|_delta_log/[0-9]{20}\S* not found"
)


def worth_retrying(error: Exception) -> bool:
    """Whether a commit that failed may succeed on a fresh table: others won, or the store had a bad moment."""
    if isinstance(error, LakeError):
        return error.kind == "storage-unavailable"
    text = str(error).lower()
    if _HOPELESS.search(text):
        return False
    found = _TRANSIENT.search(text) or _FOLDED.search(text)
    return isinstance(error, CommitFailedError) or found is not None


def missed_files(error: Exception) -> bool:
    """Whether an attempt failed for a file that was gone: fine if the table went on meanwhile and was cleaned up."""
    return _GONE.search(f"{getattr(error, 'kind', '')} {error}".lower()) is not None


def fell_behind(error: Exception) -> bool:
    """Whether a reader or writer failed because the log or the files that it had opened were cleaned up meanwhile."""
    return missed_files(error) or _FOLDED.search(str(error).lower()) is not None


def reopening(read: Callable[[], R]) -> R:
    """Return what `read` gives; it is called again when a clean-up deleted what it had just opened.

    Raises:
        LakeError, DeltaError, OSError: what `read` raises otherwise, and in the end also that.
    """
    for _ in range(_REOPENINGS - 1):
        try:
            return read()
        except (DeltaError, OSError, LakeError) as error:
            if isinstance(error, TableNotFoundError) or not fell_behind(error):
                raise
    return read()


def backoff(attempt: int) -> None:
    """Sleep before attempt number `attempt` + 1: full jitter, growing to at most 2 s."""
    time.sleep(random.uniform(0.001, min(2.0, 0.02 * 1.7 ** min(attempt, 10))))
