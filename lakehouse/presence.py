"""Presence: which of a version's data files are there, seen in one listing of their folder.

Files of our own tables stay as long as a version that lists them can be read. An adopted table is cleaned by others, so
what its log lists may be gone, and that has to be said before rows are missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import obstore

from lakehouse.decisions import Dataset
from lakehouse.delta import FileList, table_uri
from lakehouse.errors import StorageError, translated
from lakehouse.storage import Storage

AT_ONCE = 16
"""Files that are looked at at the same time, and up to how many of them the folder is not listed."""


def listed_sizes(storage: Storage, location: str, wanted: Collection[str]) -> dict[str, int]:
    """Return the sizes in bytes of those wanted files that a listing of a table's folder shows.

    One that is not shown may still be there: outside the folder, or under a name that the store spells otherwise.

    Args:
        wanted: Paths relative to the table.
    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    if len(wanted) <= AT_ONCE:
        return {}
    names, found = set(wanted), dict[str, int]()
    with translated(f"listing {location}"):
        for chunk in obstore.list(storage.store(table_uri(storage, location).removeprefix("file://"))):
            found |= {entry["path"]: entry["size"] for entry in chunk if entry["path"] in names}
    return found


def missing_files(storage: Storage, location: str, uris: Mapping[str, str]) -> list[str]:
    """Return the paths of those files that are gone, in the order given.

    Args:
        uris: Full path or URI of each file, by its path relative to the table.
    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    there = listed_sizes(storage, location, uris.keys())
    unseen = [path for path in uris if path not in there]
    if not unseen:
        return []
    files = storage.filesystem(uris[unseen[0]])

    def is_gone(path: str) -> bool:
        with translated(f"looking at a data file of {location}"):
            try:
                files.info(uris[path])
            except FileNotFoundError:
                return True
        return False

    with ThreadPoolExecutor(min(AT_ONCE, len(unseen))) as pool:
        return [path for path, gone in zip(unseen, pool.map(is_gone, unseen), strict=True) if gone]


def refuse_incomplete(storage: Storage, dataset: Dataset, table_version: int, listed: FileList) -> None:
    """Refuse a state of an adopted table of which files are gone.

    Raises:
        StorageError: some are (file-missing).
    """
    uris = dict(zip(listed.table.column("path").to_pylist(), listed.uris, strict=True))
    gone = missing_files(storage, dataset.location, uris)
    if not gone:
        return
    name = shown_file(gone[0])
    count = f"the data file {name} is" if len(gone) == 1 else f"{len(gone)} data files are"
    raise StorageError(
        "file-missing",
        f"{dataset.full_name}@#{table_version}: {count} missing{'' if len(gone) == 1 else f', the first is {name}'}. "
        f"Others clean this table at {dataset.location}, so its versions last only as long as they let them. Keep the "
        f"next ones with: lakehouse publish {dataset.full_name} --copy",
        dataset=dataset.full_name,
        version=table_version,
        files=len(gone),
    )


def shown_file(path: str) -> str:
    """Return a data file's name as messages have it: folders of partitions would show values of rows."""
    return path.rpartition("/")[2] if "=" in path else path
