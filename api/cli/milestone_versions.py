"""Commands of `lakehouse milestone` about published versions: archive, compare, roll back; and the watch over all."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import Message, Yes, command, open_lake
from api.cli.output import Column, ask_first, counted, note, number, print_record, print_rows, version
from catalog.aggregation import Standing
from catalog.milestone_history import plan_roll_back
from catalog.milestones import unverified_links
from lakehouse.decisions import MilestoneVersion
from lakehouse.lake import Lake
from lakehouse.rehearsal import rehearsal
from lakehouse.spans import parse_span

VersionName = Annotated[str, typer.Argument(metavar="NAME/VERSION", help="spring/v2")]


def _restated(ctx: typer.Context, made: MilestoneVersion) -> None:
    record = {"milestone": made.full_name, "version": made.number, "status": made.status}
    print_record(call_of(ctx), record, [("milestone", f"{made.full_name}/v{made.number}"), ("status", made.status)])


def archive(ctx: typer.Context, name: VersionName, yes: Yes = False, message: Message = None) -> None:
    """Archive a version: it can't be read any more, and pins nothing."""
    lake = open_lake(ctx)
    if yes:
        _restated(ctx, catalog.archive_milestone(lake, name, message=message))
        return
    found = catalog.archive_milestone(rehearsal(lake), name)
    shown = f"{found.full_name}/v{found.number}"
    record = {"milestone": found.full_name, "version": found.number, "status": found.status}
    ask_first(call_of(ctx), record, [("would archive", shown), ("unpins", f"{len(found.members)} states")])


def unarchive(ctx: typer.Context, name: VersionName, message: Message = None) -> None:
    """Bring back an archived version, unless a clean-up took one of its states."""
    _restated(ctx, catalog.unarchive_milestone(open_lake(ctx), name, message=message))


def protect(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    off: Annotated[bool, typer.Option("--off", help="Lift the protection.")] = False,
) -> None:
    """Protect the versions of a milestone from being archived."""
    made = catalog.protect_milestone(open_lake(ctx), name, not off)
    record = {"milestone": made.full_name, "protected": made.protected}
    print_record(
        call_of(ctx), record, [("milestone", made.full_name), ("protected", "yes" if made.protected else "no")]
    )


def compare(
    ctx: typer.Context,
    old: VersionName,
    new: Annotated[str, typer.Argument(metavar="NAME/VERSION", help="spring/v3")],
) -> None:
    """Compare two versions, member by member."""
    rows: list[dict[str, Any]] = []
    for change in catalog.compare_milestones(open_lake(ctx), old, new):
        counts = change.diff.counts if change.diff else None
        rows.append(
            {
                "dataset": change.dataset,
                "old_version": change.old.version if change.old else None,
                "new_version": change.new.version if change.new else None,
                "change": "added"
                if change.old is None
                else "removed"
                if change.new is None
                else "changed"
                if change.diff
                else "same",
                "rows": {"added": counts.added, "removed": counts.removed, "changed": counts.changed}
                if counts
                else None,
            }
        )
    columns = [
        Column("dataset"),
        Column("old_version", "old", version),
        Column("new_version", "new", version),
        Column("change"),
        counted("added"),
        counted("removed"),
        counted("changed"),
    ]
    shown = rows if call_of(ctx).json else [row | (row["rows"] or {}) for row in rows]
    print_rows(call_of(ctx), shown, columns, empty="")


def rollback(ctx: typer.Context, name: VersionName, yes: Yes = False, message: Message = None) -> None:
    """Bring all members back to a version, by a new commit each; nothing is lost."""
    lake = open_lake(ctx)
    if not yes:
        found = plan_roll_back(lake, name)
        shown = f"{found.full_name}/v{found.number}"
        record: dict[str, Any] = {"milestone": found.full_name, "version": found.number}
        members = [m.full_name for m in found.members]
        ask_first(call_of(ctx), record | {"datasets": members}, [("would restore", ", ".join(members)), ("to", shown)])
        return
    heads = catalog.roll_back_milestone(lake, name, message=message)
    rows = [{"dataset": dataset, "table_version": head} for dataset, head in heads.items()]
    columns = [Column("dataset"), Column("table_version", "head", lambda n: f"#{n}", right=True)]
    print_rows(call_of(ctx), rows, columns, empty="")


def orphans(ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Show keys that keep the links of the next version from holding."""
    lake = open_lake(ctx)
    found = catalog.milestone_orphans(lake, name)
    if not found:
        note(_without_orphans(lake, name))
    if call_of(ctx).json:
        print_rows(
            call_of(ctx),
            [{"link": o.link, "rows": o.rows, "orphans": o.orphans, "sample": o.sample} for o in found],
            [],
            empty="",
        )
        return
    rows = [
        {"link": o.link, "key": ", ".join(str(v) for k, v in key.items() if k != "rows"), "rows": key["rows"]}
        for o in found
        for key in o.sample
    ]
    if rows:
        print_rows(call_of(ctx), rows, [Column("link"), Column("key"), counted("rows")], empty="")


def _without_orphans(lake: Lake, name: str) -> str:
    """Say why no orphans are known: every link holds, or could not be verified yet."""
    if not unverified_links(lake, name):
        return "All links hold."
    pending = catalog.milestone_status(lake, name).pending
    reasons = [f"\n  {w.detail}" for w in pending.waiting] if pending else [" the next version."]
    return f"Not verified yet: waits for{''.join(reasons)}"


def watch(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Only these.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once and end: for cron.")] = False,
    every: Annotated[str, typer.Option(metavar="SPAN", help="How long to wait in between: 1m, 2h.")] = "1m",
) -> None:
    """Move milestones on whose members are ready, and notify subscribers, again and again."""
    lake, pause = open_lake(ctx), parse_span(every, "every").total_seconds()
    wanted = [catalog.milestone_status(lake, name).milestone.full_name for name in names or ()] or None
    while True:
        found = list(catalog.aggregate(lake, wanted))
        failed = [d for d in catalog.notify(lake) if not d.ok]
        for delivery in failed:
            note(f"{delivery.subscription} was not told of {delivery.event}: {delivery.error}; it is tried again")
        if once:
            print_rows(call_of(ctx), [_standing_row(s) for s in found], _STANDING, empty="No milestones.")
            return
        for one in found:
            for made in one.new:
                note(f"published {made.full_name}/v{made.number}")
        time.sleep(pause)


_STANDING = [
    Column("milestone"),
    Column("latest_version", "latest", version),
    Column("published", "now published", lambda made: "yes" if made else ""),
    Column("status"),
    Column("waiting", "waits for", number),
]


def _standing_row(found: Standing) -> dict[str, Any]:
    return {
        "milestone": found.milestone.full_name,
        "latest_version": found.published.number if found.published else None,
        "published": found.made,
        "status": found.pending.status if found.pending else "Published",
        "waiting": len(found.pending.waiting) if found.pending else 0,
    }


def register(milestone: typer.Typer) -> None:
    """Add the commands to `lakehouse milestone`."""
    for run, words, python in (
        (archive, "archive spring/v1 --yes", 'catalog.archive_milestone(lake, "spring/v1")'),
        (unarchive, "unarchive spring/v1", 'catalog.unarchive_milestone(lake, "spring/v1")'),
        (protect, "protect spring", 'catalog.protect_milestone(lake, "spring", True)'),
        (compare, "compare spring/v1 spring/v2", 'catalog.compare_milestones(lake, "spring/v1", "spring/v2")'),
        (rollback, "rollback spring/v1 --yes", 'catalog.roll_back_milestone(lake, "spring/v1")'),
        (orphans, "orphans spring", 'catalog.milestone_orphans(lake, "spring")'),
        (watch, "watch --once", "catalog.aggregate(lake)"),
    ):
        command(milestone, words.split()[0], example=f"milestone {words}", python=python)(run)
