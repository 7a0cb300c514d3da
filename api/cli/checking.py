"""Commands: `lakehouse check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import catalog
import jobs  # noqa: F401 - brings the decoder of images along
from api.cli.call import call_of
from api.cli.command import Yes, command, commands, listed, open_lake
from api.cli.output import (
    Column,
    Line,
    ask_first,
    counted,
    note,
    number,
    plural,
    print_json,
    print_record,
    print_rows,
    when,
    words,
)
from catalog.check_files import dump_checks
from catalog.check_kinds import KINDS, counted_by
from catalog.check_store import CheckResult
from lakehouse.decisions import CheckDefinition
from lakehouse.errors import InvalidInputError
from lakehouse.references import parse_name
from lakehouse.rehearsal import rehearsal

app = commands()
check = commands("Declare, run and list checks, and see what they found.")
app.add_typer(check, name="check")

DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="[namespace.]dataset")]
Ref = Annotated[str, typer.Argument(metavar="REF", help="[namespace.]dataset[@selector]")]
Samples = Annotated[bool, typer.Option("--samples", help="Also show what fails: up to 100 rows of each.")]
_TEXTS = ("query", "pattern", "to", "max_age")
"""Parameters that are texts as they are, also where they look like YAML."""
_LOOKED_AT = {"all": "all rows", "changed": "changed rows", "unchanged": "no row"}


@command(
    check,
    "add",
    example="check add vision.labels accepted_values --columns label --set 'values=[cat, dog]' --severity warning",
    python='catalog.add_check(lake, "vision.labels", "accepted_values", ["label"], '
    'parameters={"values": ["cat", "dog"]}, severity="warning")',
)
def add(
    ctx: typer.Context,
    dataset: DatasetName,
    kind: Annotated[str, typer.Argument(metavar="KIND", help=", ".join(KINDS))],
    columns: Annotated[str | None, typer.Option(metavar="COLUMNS", help="What it looks at: id,part.")] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="What the kind needs: min=0; may be given again."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Else the kind and the columns.")] = None,
    severity: Annotated[
        Literal["error", "warning"], typer.Option(help="An error keeps what fails from being published.")
    ] = "error",
) -> None:
    """Declare a rule that the states of a dataset must satisfy.

    Values are YAML: 0, [cat, dog], {id: int64}; a query, pattern, reference or span is a text as it is. What each kind
    takes is told in docs/checks.md.
    """
    made = catalog.add_check(
        open_lake(ctx),
        dataset,
        kind,
        listed(columns),
        parameters=dict(_parameter(text) for text in parameters or []),
        name=name,
        severity=severity,
    )
    record = _definition_json(made)
    print_record(call_of(ctx), record, [("added", made.name), *_definition_lines(record)])
    note(f"Run it with: lakehouse check run {dataset} --check {made.name}")


def _parameter(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInputError("option-invalid", f"--set {text!r}: write NAME=VALUE.")
    if name in _TEXTS:
        return name, value
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InvalidInputError("option-invalid", f"--set {name}=...: the value is not YAML.") from error


@command(check, "load", example="check load checks.yaml", python='catalog.load_checks(lake, "checks.yaml")')
def load(ctx: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE")]) -> None:
    """Declare the checks that a YAML file lists, and the milestones that the dataset is a member of.

    All in one decision. What an earlier file declared and this one does not is removed. `check list DATASET --yaml` writes such a file.
    """
    done = catalog.load_checks(open_lake(ctx), file)
    record = {"dataset": done.dataset}
    changes = {name: list(getattr(done, name)) for name in ("added", "changed", "removed", "unchanged")}
    changes["joined"] = list(done.joined)
    lines = [("dataset", done.dataset), *((name, words(found)) for name, found in changes.items())]
    print_record(call_of(ctx), record | changes, lines)


@command(
    check,
    "remove",
    example="check remove vision.labels accepted_values_label --yes",
    python='catalog.remove_check(lake, "vision.labels", "accepted_values_label")',
)
def remove(
    ctx: typer.Context, dataset: DatasetName, name: Annotated[str, typer.Argument(metavar="CHECK")], yes: Yes = False
) -> None:
    """Remove a check; its results stay on record."""
    call, lake = call_of(ctx), open_lake(ctx)
    if not yes:
        found = catalog.remove_check(rehearsal(lake), dataset, name)
        record = _definition_json(found)
        ask_first(call, record, [("would remove", found.name), *_definition_lines(record)])
        return
    record = _definition_json(catalog.remove_check(lake, dataset, name))
    print_record(call, record, [("removed", record["name"]), *_definition_lines(record)])


@command(check, "list", example="check list vision.labels", python='catalog.list_checks(lake, "vision.labels")')
def list_(
    ctx: typer.Context,
    dataset: DatasetName,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="As a declaration file, for `check load`.")] = False,
) -> None:
    """List the checks of a dataset."""
    found = catalog.list_checks(open_lake(ctx), dataset)
    if as_yaml:
        typer.echo(dump_checks(".".join(parse_name(dataset)), found), nl=False)
        return
    columns = [
        Column("name"),
        Column("kind"),
        Column("columns", shown=words),
        Column("parameters", shown=_parameters),
        Column("severity"),
    ]
    empty = f"No checks. Add one: lakehouse check add {dataset} not_null --columns ..."
    print_rows(call_of(ctx), [_definition_json(c) for c in found], columns, empty=empty)


def _definition_json(value: CheckDefinition) -> dict[str, Any]:
    return {
        "name": value.name,
        "kind": value.kind,
        "columns": list(value.columns),
        "parameters": dict(value.parameters),
        "severity": value.severity,
        "in_file": value.in_file,
        "created_at": value.created_at,
        "created_by": value.created_by,
    }


def _definition_lines(record: dict[str, Any]) -> list[Line]:
    return [
        ("kind", record["kind"]),
        ("columns", words(record["columns"])),
        ("parameters", _parameters(record["parameters"])),
        ("severity", record["severity"]),
    ]


def _parameters(value: dict[str, Any]) -> str:
    return ", ".join(f"{name}={json.dumps(entry, ensure_ascii=False)}" for name, entry in value.items())


# -- results ----------------------------------------------------------------------------------------------------------


@command(
    check,
    "run",
    example="check run vision.labels@v3",
    python='catalog.run_checks(lake, "vision.labels@v3", ["unique_path"])',
)
def run(
    ctx: typer.Context,
    reference: Ref,
    names: Annotated[
        list[str] | None, typer.Option("--check", metavar="NAME", help="Only this one; may be given again.")
    ] = None,
    samples: Samples = False,
) -> None:
    """Judge a state by the checks of its dataset.

    Nothing is computed twice for one state. Exit code 5 when a check of severity error fails.
    """
    found = catalog.run_checks(open_lake(ctx), reference, names or None)
    _print(ctx, found, samples=samples, empty=f"No checks. Add one: lakehouse check add {reference.partition('@')[0]}")
    if any(not r.ok and r.severity == "error" for r in found):
        raise typer.Exit(5)


@command(
    check,
    "results",
    example="check results vision.labels@v3 --samples",
    python='catalog.check_results(lake, "vision.labels@v3")',
)
def results(ctx: typer.Context, reference: Ref, samples: Samples = False) -> None:
    """Show what checks found of a state, without running any.

    Those of all states are a view: lakehouse sql "from check_results"
    """
    found = catalog.check_results(open_lake(ctx), reference)
    _print(ctx, found, samples=samples, empty=f"No results. Run the checks: lakehouse check run {reference}")


def _print(ctx: typer.Context, found: list[CheckResult], *, samples: bool, empty: str) -> None:
    rows = [_result_json(r, samples=samples) for r in found]
    if call_of(ctx).json:
        print_json(rows)
        return
    columns = [
        Column("name"),
        Column("ok", "result", lambda ok: "ok" if ok else "FAILED"),
        Column("severity"),
        Column("failing", right=True),
        counted("rows"),
        Column("finding"),
        Column("method", "looked at", lambda method: _LOOKED_AT[method]),
        Column("finished_at", "at", when),
    ]
    shown = [row | {"failing": _failing(r)} for r, row in zip(found, rows, strict=True)]
    print_rows(call_of(ctx), shown, columns, empty=empty)
    for row in rows if samples else []:
        if row["samples"]:
            typer.echo(f"\n{row['name']} ({len(row['samples']):,} of {row['failures']:,})")
            for sample in row["samples"]:
                typer.echo(json.dumps(sample, ensure_ascii=False))
    failed = sum(not row["ok"] for row in rows)
    if failed:
        note(f"{plural(failed, 'check')} failed." + ("" if samples else " See what fails with --samples."))


def _failing(found: CheckResult) -> str:
    """Return how much fails, and of what, where that is no rows."""
    word = counted_by(found.kind, found.failures)
    return number(found.failures) + ("" if word in ("row", "rows") or not found.failures else f" {word}")


def _result_json(value: CheckResult, *, samples: bool) -> dict[str, Any]:
    shown = {
        "name": value.name,
        "kind": value.kind,
        "severity": value.severity,
        "ok": value.ok,
        "failures": value.failures,
        "rows": value.rows,
        "finding": value.finding,
        "ok_until": value.ok_until,
        "method": value.method,
        "table_version": value.table_version,
        "started_at": value.started_at,
        "finished_at": value.finished_at,
        "result": value.result,
    }
    return shown | ({"samples": [json.loads(text) for text in value.samples]} if samples else {})


__all__ = ["app"]
