"""Versions: publish an immutable, numbered state of a dataset; movable tags on it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa

from catalog.aggregation import Standing, advance_with
from catalog.check_runs import gate
from catalog.copies import copied
from catalog.milestones import joining
from lakehouse import changes
from lakehouse.commit_chain import extension
from lakehouse.decisions import Dataset, DatasetVersion, DataTag, Decision, Name, Tag
from lakehouse.diff import diff
from lakehouse.errors import AccessDeniedError, ConflictError, LakeError, NotFoundError, StateError, StorageError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.metrics import combine, measure
from lakehouse.notices import refuse_withdrawn, sentence
from lakehouse.pins import is_condemned, refuse_condemned
from lakehouse.proof import prove_files
from lakehouse.references import check_tag, parse, parse_name
from lakehouse.resolution import find_dataset, find_name, known_name, published_at, refuse_expired, tags_of, versions_of
from lakehouse.snapshots import Snapshot

log = logging.getLogger(__name__)

DEFAULT_DATA_TAG = "DRAFT"
_COPY_TRIES = 5
_CHECK_TRIES = 5
_STORE_FAILED = ("storage-unavailable", "storage-full", "bucket-not-found")


def publish(
    lake: Lake,
    reference: str,
    *,
    data_tag: str = DEFAULT_DATA_TAG,
    message: str | None = None,
    run: str | None = None,
    copy: bool = False,
    version: int | None = None,
    milestone: str | None = None,
    batch: str | None = None,
    correction: bool = False,
    told: Callable[[Standing], object] | None = None,
) -> DatasetVersion:
    """Make a state of a dataset its next published version: numbered, pinned, never changing.

    Before that, the files that the last version did not prove are checked, and the metrics of what changed since
    are added to its own: the cost follows the change. The version itself is one row in one commit. Milestones that
    waited for it move on afterwards.

    Args:
        reference: The dataset (its head), or one of its states: `photos`, `photos@#57`.
        data_tag: DRAFT, REVIEWED, FINAL or your own word.
        version: The number that it must get; another one is refused.
        milestone: A milestone that the dataset becomes a member of, if it is none: `spring`, or `spring/v2` if the
            milestone's next version must be that one.
        batch: Key of the cycle that it belongs to, such as `2026-W48`.
        correction: Milestones that wait for all their members take it at once.
        copy: Of an adopted table: copy the state's rows into a table of our own, so that nothing that others do to the
            original breaks the version.
        told: Is called with where each of its milestones stands afterwards.
    Raises:
        InvalidInputError: `copy` of a table that is ours anyway (copy-own).
        NotFoundError: what the reference names does not exist, or a clean-up has given it up (version-folded).
        StateError: the data tag is a movable tag of this dataset (tag-taken), the dataset was deleted or replaced
            meanwhile (dataset-replaced), it or the milestone would get another number (version-mismatch), the state
            fails a check of severity `error` (check-failed), or is a version that was withdrawn (version-withdrawn).
        ConflictError: new checks came again and again while it was published (checks-changed).
        StorageError: a data file is missing or damaged (file-missing, file-damaged); nothing is published.
    """
    check_tag(data_tag)
    lake.check("version.publish", parse(reference).name)
    wish = _Wish(data_tag, message or "", run, version, milestone, batch, correction)
    made = _published(lake, reference, wish, copy=copy)
    advance_with(lake, made.full_name, run=run, told=told)
    return made


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a version is published with."""

    data_tag: str
    message: str
    run: str | None
    version: int | None
    milestone: str | None
    batch: str | None
    correction: bool


def _published(lake: Lake, reference: str, wish: _Wish, *, copy: bool) -> DatasetVersion:
    tries = 0
    while True:
        snapshot = lake.peek(reference)
        origin = snapshot.version.copied_from if snapshot.version else None
        if copy:
            snapshot, origin = copied(lake, snapshot, run=wish.run)
        try:
            return _publish(lake, snapshot, origin, wish)
        except ConflictError as error:
            tries += 1
            if error.kind != "checks-changed" or tries >= _CHECK_TRIES:
                raise
        except (NotFoundError, StorageError):
            # A clean-up may be faster than a publication: of a fresh copy there is another one, of other states not.
            tries += 1
            state, dataset, version = lake.state(), snapshot.dataset, snapshot.table_version
            if copy and tries < _COPY_TRIES and is_condemned(state, dataset.dataset_id, version):
                continue
            refuse_condemned(state, dataset.dataset_id, dataset.full_name, version)
            raise


def _publish(lake: Lake, snapshot: Snapshot, origin: int | None, wish: _Wish) -> DatasetVersion:
    """Publish an opened state.

    Args:
        origin: Table version of the adopted table that it is a copy of.
    """
    previous = _newest(lake, snapshot.dataset)
    prove_files(snapshot, set() if previous is None else set(previous.file_list.table.column("path").to_pylist()))
    passed = gate(lake, snapshot)
    _store_metrics(lake, snapshot, previous)
    _store_changes(lake, snapshot, previous)
    commits = extension(lake.storage, lake.state(), snapshot.dataset, snapshot.table_version)
    full_name, count = snapshot.dataset.full_name, snapshot.num_rows

    def rule(state: State) -> tuple[DatasetVersion, list[Decision]]:
        name = find_name(state, full_name)  # it may have been renamed meanwhile
        # Of a deleted dataset the name has no id, as a table that is no copy has no original.
        if name.dataset_id is None or name.dataset_id not in (snapshot.dataset.dataset_id, snapshot.dataset.copy_of):
            raise StateError(
                "dataset-replaced", f"{full_name} was deleted or made anew while it was published.", dataset=full_name
            )
        if state.get(Tag, f"{name.series}/{wish.data_tag.casefold()}") is not None:
            raise StateError(
                "tag-taken", f"{wish.data_tag!r} is a movable tag of {full_name}; tags and data tags share one space."
            )
        if wish.version not in (None, name.last_version + 1):
            raise StateError(
                "version-mismatch",
                f"The next version of {full_name} is v{name.last_version + 1}, not v{wish.version}: nothing was "
                "published. Leave the number out, or look whether somebody was faster: lakehouse log " + full_name,
                dataset=full_name,
            )
        refuse_condemned(state, snapshot.dataset.dataset_id, full_name, snapshot.table_version)
        _refuse_withdrawn_state(state, name, snapshot, origin)
        passed.refuse_new(state)
        version = DatasetVersion(
            series=name.series,
            number=name.last_version + 1,
            dataset_id=snapshot.dataset.dataset_id,
            full_name=name.full_name,
            table_version=snapshot.table_version,
            data_tag=_known_case(state, wish.data_tag),
            message=wish.message,
            rows=count,
            files=len(snapshot.file_list),
            bytes=snapshot.file_list.bytes,
            committed_at=snapshot.created_at,
            created_at=datetime.now(UTC),
            created_by=lake.actor,
            run=wish.run,
            copied_from=origin,
            batch=wish.batch,
            correction=wish.correction,
            commits_head=commits.head(state),
        )
        raised = replace(name, last_version=version.number)
        joined = joining(state, wish.milestone, name.full_name) if wish.milestone else []
        return version, [Decision.put("version.publish", version), Decision.put("version.publish", raised), *joined]

    return lake.ledger.decide(rule, run=wish.run, message=wish.message or None).result


def _refuse_withdrawn_state(state: State, name: Name, snapshot: Snapshot, origin: int | None) -> None:
    """Refuse to publish what was withdrawn as a new version; the next copy of an adopted state is the same again."""
    for version in versions_of(state, name.series):
        same = version.table_version == snapshot.table_version or (origin is not None and version.copied_from == origin)
        if same and version.withdrawn and version.dataset_id == snapshot.dataset.dataset_id:
            raise StateError(
                "version-withdrawn",
                f"{name.full_name}@#{snapshot.table_version} was not published: {sentence(version).rstrip('.')}. Correct "
                "the data and publish that, or take the notice back with: "
                f"lakehouse deprecate {name.full_name}@v{version.number} --undo",
                dataset=name.full_name,
                version=version.number,
            )


def set_tag(lake: Lake, reference: str, tag: str) -> Tag:
    """Point a movable tag at the published version that a reference names.

    Args:
        reference: `photos@v3`, `photos@latest`, `photos@FINAL`; a state that was never published is refused.
    Raises:
        InvalidInputError: tag-invalid, tag-reserved.
        NotFoundError: what the reference names does not exist, or the dataset was deleted (dataset-deleted).
        StateError: the state is not published (version-not-published), was given up (version-expired) or withdrawn
            (version-withdrawn); the word is a data tag (tag-taken).
    """
    check_tag(tag)
    ref = parse(reference)
    found = lake.resolve(ref)
    version = found.version
    if version is None:
        raise StateError(
            "version-not-published",
            f"{ref} is no published version; tags name versions. Publish it, or name one: {ref.name}@latest.",
        )
    chosen = version

    def rule(state: State) -> tuple[Tag, list[Decision]]:
        find_dataset(state, found.reference.name)
        refuse_expired(state, chosen)
        refuse_withdrawn(state, chosen)
        used = {v.data_tag.casefold() for v in versions_of(state, chosen.series)} | {d.key for d in state.all(DataTag)}
        if tag.casefold() in used:
            raise StateError(
                "tag-taken", f"{tag!r} is a data tag; tags and data tags share one space. Choose another word.", tag=tag
            )
        value = Tag(series=chosen.series, name=tag, number=chosen.number)
        return value, [Decision.put("tag.set", value)]

    return lake.ledger.decide(rule).result


def remove_tag(lake: Lake, name: str, tag: str) -> Tag:
    """Remove a movable tag; the version that it named stays.

    Raises:
        NotFoundError: dataset-not-found, or no such tag (tag-not-found).
    """

    def rule(state: State) -> tuple[Tag, list[Decision]]:
        found = _find_tag(state, name, tag)
        return found, [Decision.remove("tag.remove", found)]

    return lake.ledger.decide(rule).result


def _find_tag(state: State, name: str, tag: str) -> Tag:
    """Return the movable tag that `remove_tag` would remove; errors as there."""
    full = ".".join(parse_name(name))
    found = state.get(Tag, f"{find_name(state, full).series}/{tag.casefold()}")
    if found is None:
        raise NotFoundError(
            "tag-not-found",
            f"{full} has no tag {tag!r}. List them with: lakehouse tag list {full}",
            dataset=full,
            tag=tag,
        )
    return found


def list_tags(lake: Lake, name: str) -> dict[str, int]:
    """Return a dataset's movable tags: {tag: version number}.

    Raises:
        NotFoundError: dataset-not-found.
    """
    state = lake.state()
    return tags_of(state, find_name(state, ".".join(parse_name(name))).series)


def list_versions(lake: Lake, name: str) -> list[DatasetVersion]:
    """Return a dataset's published versions, newest first.

    Raises:
        NotFoundError: dataset-not-found.
    """
    state = lake.state()
    return list(versions_of(state, find_name(state, ".".join(parse_name(name))).series))[::-1]


def _known_case(state: State, data_tag: str) -> str:
    known = state.get(DataTag, data_tag.casefold())
    return known.name if known else data_tag


def _newest(lake: Lake, dataset: Dataset) -> Snapshot | None:
    """Return the newest published version of this very table, to measure the change against."""
    state = lake.state()
    name = known_name(state, dataset.full_name)
    published = versions_of(state, name.series) if name else ()
    own = [v for v in published if v.dataset_id == dataset.dataset_id and v.expired_at is None and not v.withdrawn]
    if not own:
        return None
    newest = max(own, key=lambda v: v.number)
    try:
        return lake.peek(f"{dataset.full_name}@v{newest.number}")
    except (NotFoundError, StorageError) as error:
        if dataset.guarantee == "own" or error.kind == "storage-unavailable":
            raise
        return None  # an adopted table whose owner cleaned it: everything counts as new


def _store_metrics(lake: Lake, snapshot: Snapshot, previous: Snapshot | None) -> None:
    """Store the metrics of a state, from those of the last version and what changed since."""
    if published_at(lake.state(), snapshot.dataset.dataset_id, snapshot.table_version) is not None:
        return
    known = None if previous is None else _stored(lake, previous)
    new, old = (set() if s is None else set(s.file_list.table.column("path").to_pylist()) for s in (snapshot, previous))
    if previous is None or known is None or previous.schema != snapshot.schema or new.isdisjoint(old):
        rows = measure(snapshot)
    else:
        rows = combine([(1, known), (1, measure(snapshot.only(new - old))), (-1, measure(previous.only(old - new)))])
    count = rows.num_rows
    rows = rows.append_column("dataset_id", pa.array([snapshot.dataset.dataset_id] * count, pa.string()))
    rows = rows.append_column("table_version", pa.array([snapshot.table_version] * count, pa.int64()))
    lake.facts.append("metrics", rows, (f"metrics-{snapshot.dataset.dataset_id}-{snapshot.table_version}", 0))


def _store_changes(lake: Lake, snapshot: Snapshot, previous: Snapshot | None) -> None:
    """Store what differs from the last version, so that a later diff need not look; without it that is only slower."""
    if previous is None or snapshot.dataset.guarantee != "own" or snapshot.table_version == previous.table_version:
        return
    try:
        changes.store(lake.facts, diff(previous, snapshot))
    except LakeError as error:
        if isinstance(error, AccessDeniedError) or error.kind in _STORE_FAILED:
            raise
        log.warning("%s: what changed since %s was not stored (%s)", snapshot.reference, previous.reference, error.kind)


def _stored(lake: Lake, snapshot: Snapshot) -> pa.Table | None:
    facts = lake.facts.snapshot("metrics")
    if facts is None:
        return None
    where = f"dataset_id = '{snapshot.dataset.dataset_id}' and table_version = {snapshot.table_version}"
    rows = facts.to_arrow(columns=["split", "name", "label", "value"], where=where)
    return rows if rows.num_rows else None


__all__ = ["DEFAULT_DATA_TAG", "list_tags", "list_versions", "publish", "remove_tag", "set_tag"]
