"""Start-up of the command line, against `python -c pass`.

python benchmarks/bench_cli.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from _timing import compare

import catalog
import lakehouse

SCRIPT = Path(sys.executable).with_name("lakehouse")


def process(*command: str) -> Callable[[], object]:
    """Return a call that runs a process to its end and fails if that does."""
    return lambda: subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """Run it."""
    nothing = {"python -c pass": process(sys.executable, "-c", "pass")}
    cli = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "api.cli.main"]
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(folder) / "lake")
        lake = lakehouse.init(root)
        table = pa.table({"id": [1, 2, 3]})
        catalog.create_dataset(lake, "photos", table.schema)
        lake.table("photos").append(table)
        catalog.publish(lake, "photos")
        for arguments, limit in ((["--help"], 0.3), (["--root", root, "show", "photos@v1"], 0.7)):
            result = compare(
                f"lakehouse {arguments[-1] if len(arguments) == 1 else 'show REF'}",
                process(*cli, *arguments),
                nothing,
                15,
            )
            took = result.seconds["ours"]
            print(f"{'':<4}median {took:.3f} s, target under {limit} s: {'ok' if took < limit else 'MISSED'}")


if __name__ == "__main__":
    main()
