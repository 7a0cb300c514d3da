"""The demo: everything on real images, offline. Each step is a command line that a reader can type too."""

from __future__ import annotations

import contextlib
import shlex
import time
from pathlib import Path

import typer
from typer.main import get_command

import lakehouse
from api.cli.main import app
from jobs.samples import Samples, write_samples


def run(lake_root: str) -> None:
    """Make a lakehouse and show it.

    Args:
        lake_root: Where: a folder that does not exist or is empty, or a URI.
    Raises:
        StateError: the folder holds something already (folder-not-empty).
        InvalidInputError: scikit-learn or Pillow is not installed (extra-missing).
    """
    begin = time.monotonic()
    folder = Path("lakehouse-demo-files" if "://" in lake_root else f"{lake_root}-files").absolute()
    for path in (folder, Path(lake_root)):
        if "://" not in str(path) and path.exists() and any(path.iterdir()):
            raise lakehouse.StateError(
                "folder-not-empty", f"{path} is not empty. Remove it, or show the demo elsewhere: lakehouse demo OTHER"
            )
    _say("Real images: 1,797 handwritten digits and 2 photographs that come with scikit-learn, written as files.")
    files = write_samples(folder)
    typer.echo(f"  {folder}")
    steps = _Steps(lake_root, folder.parent)

    _first_delivery(steps, files)
    _second_delivery(steps, files)
    _clean_up(steps)
    _say(f"Done in {time.monotonic() - begin:.0f} s. Try next:")
    shown = shlex.quote(lake_root if "://" in lake_root else str(Path(lake_root).absolute()))
    typer.echo(f"""
  export LAKEHOUSE_ROOT={shown}
  lakehouse status
  lakehouse log demo.digits
  lakehouse head demo.digits@v1
  lakehouse lineage demo.digits_features
  lakehouse asset get demo.digits train/0000.png -o digit.png
  lakehouse sql                       # a prompt; \\d lists the datasets
  lakehouse sql 'select * from pins'
""")


def _first_delivery(steps: _Steps, files: Samples) -> None:
    _say("Make a lakehouse: one folder (or one prefix of a bucket), no server.")
    steps("init")
    _say("Take the first delivery. Small images are packed into tar files; each row knows where its bytes lie.")
    steps(f"ingest {steps.at(files.first)} --dataset demo.digits --license BSD-3-Clause")
    steps(f"ingest {steps.at(files.labels)} --dataset demo.digits --mode merge -m 'labels of the first delivery'")
    _say("Compute features of every image. Whoever publishes last completes the milestone; v1 never changes again.")
    steps("run features demo.digits")
    steps(
        "milestone define spring demo.digits demo.digits_features --data-tag FINAL "
        "--link 'demo.digits_features.path -> demo.digits.path'"
    )
    steps("publish demo.digits --data-tag FINAL -m 'first delivery'")
    steps("publish demo.digits_features --data-tag FINAL")
    steps("milestone show spring")


def _second_delivery(steps: _Steps, files: Samples) -> None:
    _say("A month later: 25 labels were wrong, and 97 more digits came. The feature job touches only those.")
    steps(f"ingest {steps.at(files.corrections)} --dataset demo.digits --mode merge -m '25 labels corrected'")
    steps(f"ingest {steps.at(files.second)} --dataset demo.digits --license BSD-3-Clause")
    steps(
        f"ingest {steps.at(files.second_labels)} --dataset demo.digits --mode merge -m 'labels of the second delivery'"
    )
    steps("run features demo.digits")
    steps("publish demo.digits --data-tag FINAL -m 'second delivery, labels corrected'")
    steps("publish demo.digits_features --data-tag FINAL")
    _say("What changed?")
    steps("diff demo.digits@v1 demo.digits@v2 --column label")
    _say("The same question to both versions, and to the milestone, which still holds v1.")
    question = "sql 'select label, count(*) as digits from {} group by label order by digits desc, label limit 3'"
    steps(question.format('"demo.digits@v1"'))
    steps(question.format('"demo.digits@v2"'))
    steps(question.format("demo.digits") + " --milestone spring/v1")
    _say("Photographs are a dataset of their own; features answer questions about pixels.")
    steps(f"ingest {steps.at(files.photographs)} --dataset demo.photographs")
    steps("run features demo.photographs")
    steps("sql 'select path, width, height, phash, round(sharpness) as sharpness from demo.photographs_features'")
    _say("Hand a version to somebody else.")
    steps(f"export demo.digits@v2 --format parquet -o {steps.at(files.first.with_name('export'))}")


def _clean_up(steps: _Steps) -> None:
    _say(
        "Rewrite the head in better files, then give up all history that nothing pins. Both versions stay as they are."
    )
    steps("optimize demo.digits --sort")
    steps("vacuum --keep-for 0 --yes")
    steps("verify --deep")
    steps("diff demo.digits@v1 demo.digits@v2")


class _Steps:
    """Prints each command line and runs it, as a reader would in the folder beside the files."""

    def __init__(self, root: str, folder: Path) -> None:
        self._folder = folder
        self._root = root if "://" in root else str(Path(root).absolute())

    def at(self, path: Path) -> str:
        """Return a path as it is typed in that folder."""
        return shlex.quote(str(path.relative_to(self._folder)))

    def __call__(self, line: str) -> None:
        typer.secho(f"\n$ lakehouse {line}", fg="green", bold=True)
        with contextlib.chdir(self._folder):
            try:
                get_command(app)([*shlex.split(line), "--root", self._root], prog_name="lakehouse")
            except SystemExit as done:
                if done.code:  # the command has said why
                    raise typer.Exit(int(done.code)) from None


def _say(text: str) -> None:
    typer.secho(f"\n# {text}", fg="cyan")
