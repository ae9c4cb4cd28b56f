"""Measure packages that are installed alone, each in an environment of its own: size, distributions, import times.

    nox -s footprint                    makes the environments, runs this, and writes the table of docs/footprint.md

A size counts all files that installing has brought, without bytecode. An import time is CPU time, the least of several
starts of the interpreter with bytecode, less a start that imports nothing: so a busy machine changes it little.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parent.parent / "docs/footprint.md"
BACKEND = """
from importlib.metadata import entry_points
for point in entry_points(group="rivers.executors"):
    if point.dist.name == {name!r}:
        point.load()
"""
IMPORTS = {
    # A distribution: what a user's module imports of it; workers import it, too.
    "rivers-executor-dask": "import rivers_executor_dask",
    "rivers-executor-slurm": "import rivers_executor_slurm",
    "rivers-executor-ssh": "import rivers_executor_ssh",
    "rivers-k8s-testing": "import rivers_k8s_testing",
    "rivers-worker": "import rivers_worker.client",
}
COUNT = "from importlib.metadata import distributions; print(len(list(distributions())))"


class Footprint(NamedTuple):
    """A package that is installed alone; `size` in bytes, times in seconds."""

    name: str
    size: int
    distributions: int
    value: float
    backend: float | None


def installed_size(environment: Path) -> int:
    """Return the bytes of the files in site-packages, without bytecode."""
    (site,) = environment.glob("lib/python*/site-packages")
    ours = ("_virtualenv.py", "_virtualenv.pth")
    files = (path for path in site.rglob("*") if path.is_file() and not path.is_symlink() and path.name not in ours)
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc")


def start(python: Path, code: str) -> float:
    """Return the seconds of CPU time of one interpreter from its start to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = subprocess.Popen([python, "-I", "-c", code], env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{python} -c {code!r} ended with code {process.returncode}")
    return used.ru_utime + used.ru_stime


def measure(environment: Path, repeat: int) -> Footprint:
    """Measure one environment, whose folder has the name of its package."""
    name, python = environment.name, environment / "bin/python"
    size = installed_size(environment)
    codes = {
        "bare": "pass",
        "value": IMPORTS.get(name, "import rivers"),
        "backend": f"import rivers\n{BACKEND.format(name=name)}",
    }
    for code in codes.values():
        # The first start writes the bytecode.
        start(python, code)
    least = dict.fromkeys(codes, float("inf"))
    for _ in range(repeat):
        # In turn, so that a busy moment of the machine hits all of them.
        for key, code in codes.items():
            least[key] = min(least[key], start(python, code))
    counted = subprocess.run([python, "-I", "-c", COUNT], check=True, capture_output=True, text=True).stdout
    backend = least["backend"] - least["bare"] if "-executor-" in name else None
    return Footprint(name, size, int(counted), least["value"] - least["bare"], backend)


def table(found: list[Footprint]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| package | installed | packages | import | with its backend |", "|---|---|---|---|---|"]
    for one in found:
        backend = "" if one.backend is None else f"{one.backend * 1000:.0f} ms"
        size = f"{one.size / 1e6:.1f} MB"
        lines.append(f"| `{one.name}` | {size} | {one.distributions} | {one.value * 1000:.0f} ms | {backend} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all environments in a folder, print the table, and write it to the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="holds an environment for each package, under the package's name")
    parser.add_argument("--repeat", type=int, default=9, help="interpreters to start for each time")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--no-page", action="store_true", help="leave docs/footprint.md as it is")
    arguments = parser.parse_args()
    environments = sorted(path for path in arguments.folder.iterdir() if (path / "bin/python").exists())
    found = [measure(environment, arguments.repeat) for environment in environments]
    text = table(found)
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps([one._asdict() for one in found], indent=1))
    if not arguments.no_page:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(re.sub(r"(?m)^\| package \|.*\n(\|.*\n)*", lambda match: text, page), encoding="utf-8")


if __name__ == "__main__":
    main()
