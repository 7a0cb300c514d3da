"""Builds the wheel, installs it into a fresh environment and checks what a user gets.

First the base package alone, which must import without any extra; then the extras that the command line needs.
Run it with the Python to test: `python tools/wheel_smoke.py`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
NOT_SOURCE = [".*", "__pycache__", "*.egg-info", "build"]

# Run by the new environment's Python, outside the repository; the .sql files to expect come as arguments.
BASE = """
import importlib.resources, importlib.util, sys
import lakehouse, catalog
extras = [name for name in ("fastapi", "PIL", "ray", "snorkel", "torch", "typer") if importlib.util.find_spec(name)]
assert not extras, f"the base package installs {extras}"
found = {entry.name for entry in importlib.resources.files("sql").iterdir() if entry.name.endswith(".sql")}
assert found == set(sys.argv[1:]), f"the wheel has {sorted(found)}, the repository {sorted(sys.argv[1:])}"
typed = [name for name in ("lakehouse", "catalog", "jobs", "api")
         if not importlib.resources.files(name).joinpath("py.typed").is_file()]
assert not typed, f"no py.typed in {typed}"
"""


def main() -> None:
    """Build, install and check; any failure ends with a non-zero exit code."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def run(*command: str | Path) -> None:
            subprocess.run(command, cwd=place, check=True)

        # From a copy, because setuptools leaves a build folder behind, whose old files get into the next wheel.
        source = shutil.copytree(ROOT, place / "source", ignore=shutil.ignore_patterns(*NOT_SOURCE))
        run(sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", place, source)
        (wheel,) = place.glob("*.whl")
        environment = place / "environment"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"

        run(python, *PIP, "install", "-c", ROOT / "constraints.txt", wheel)
        run(python, "-c", BASE, *sorted(path.name for path in (ROOT / "sql").glob("*.sql")))
        print("the base package imports alone and carries its views")

        run(python, *PIP, "install", "-c", ROOT / "constraints.txt", f"{wheel}[jobs,api]")
        run(environment / "bin" / "lakehouse", "--help")
        run(python, *PIP, "check")
        print("the command line works with [jobs,api]")


if __name__ == "__main__":
    main()
