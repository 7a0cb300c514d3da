"""Commands: `lakehouse run features`."""

from __future__ import annotations

from typing import Annotated

import typer

import jobs
from api.cli.call import call_of
from api.cli.command import Message, command, commands, open_lake
from api.cli.output import number, print_record, rejected, tally
from api.cli.progress import progress

app = commands()
run = commands("Run jobs over datasets.")
app.add_typer(run, name="run")
_SOME_REJECTED = 7


@command(
    run, "features", example="run features vision.photos", python='jobs.run_features(lake, "vision.photos", full=False)'
)
def features(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A dataset of images.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; else one a core.", show_default=False)] = None,
    full: Annotated[bool, typer.Option("--full", help="Compute all again, not only what changed.")] = False,
    message: Message = None,
) -> None:
    """Compute image features into DATASET_features.

    Format, size, perceptual hash, mean and deviation per channel, and sharpness, of new and changed images. Those that
    can't be decoded become rejects: exit code 7.
    """
    lake = open_lake(ctx)
    with progress("features") as bar:
        report = jobs.run_features(lake, dataset, workers=workers, full=full, message=message, progress=bar)
    lines = [
        ("features", f"{report.features}@#{report.table_version}"),
        ("processed", number(report.processed)),
        ("unchanged", number(report.skipped or None)),
        ("relabelled", number(report.relabelled or None)),
        ("removed", number(report.removed or None)),
        ("rejected", rejected(report.rejected, report.rejects_by_code)),
        ("warnings", tally(report.warnings)),
        ("time", f"{report.seconds:.1f} s"),
        ("run", report.run),
    ]
    print_record(call_of(ctx), report.to_json(), lines)
    if report.rejected:
        raise typer.Exit(_SOME_REJECTED)
