"""Completion in the three shells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rivers_cli import completion

sys.path.append(str(Path(__file__).parent))

from cli_project import Cli, program, run_program, write


class Line:
    """A command line that has been parsed up to the cursor."""

    def __init__(self, *arguments: str, **params: object) -> None:
        self.args = list(arguments)
        self.params = params


def complete(folder: Path, shell: str, line: str) -> list[str]:
    """Return what the program offers to a shell for the last word of a line."""
    words = line.split(" ")
    variables = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": line}
    variables |= {"_RIVERS_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return run_program(folder=folder, **variables).out.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells(project: Path, shell: str) -> None:
    """Every shell gets the assets of the target before it on the line, whatever the module prints."""
    write(project / "loud.py", "print('loud')\nfrom shop import *\n")
    found = " ".join(complete(project, shell, "rivers run loud --select or"))

    assert "orders" in found
    assert "total" not in found
    assert "loud" not in found


def test_installed_script(tmp_path: Path) -> None:
    """The program prints the script that a shell sources."""
    # typer looks for the shell among the parents of its process; a second command keeps bash from replacing itself.
    command = ["bash", "-c", '"$@"; exit $?', "bash", *program("--show-completion")]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50)

    assert "complete -o default -F _rivers_completion rivers" in ended.stdout


def test_candidates(project: Path, cli: Cli) -> None:
    """Targets, selectors, jobs, executors, fields, runs and steps are completed."""
    cli("run", "shop", "-q")
    (record,) = (project / ".rivers/runs").iterdir()
    short = record.name[:8]

    assert ["shop", "shop.py"] == completion.complete_target("sh")
    assert ["orders,+total"] == completion.complete_select(Line("shop"), "orders,+to")  # type: ignore[arg-type]
    assert ["tag:daily", "tag:slow"] == completion.complete_select(Line(target="shop"), "tag:")  # type: ignore[arg-type]
    assert [] == completion.complete_select(Line("nothing"), "")  # type: ignore[arg-type]
    assert ["good"] == completion.complete_job(Line(target="shop"), "g")  # type: ignore[arg-type]
    assert ["parallel"] == completion.complete_executor("par")
    fields = completion.complete_field(Line(executor="parallel"), "max_w")  # type: ignore[arg-type]
    assert ["max_workers="] == fields
    assert [] == completion.complete_field(Line(executor="nonsense"), "")  # type: ignore[arg-type]
    assert [short] == completion.complete_run(Line(), "")  # type: ignore[arg-type]
    assert ["total"] == completion.complete_step(Line(short), "t")  # type: ignore[arg-type]
    assert ["orders", "total", "broken", "after", short] == completion.complete_step(Line(), "")  # type: ignore[arg-type]


def test_invalid_repository(project: Path) -> None:
    """A repository with mistakes still offers its assets."""
    write(
        project / "bad.py",
        "import rivers as rs\n@rs.Asset(deps=['gone'])\ndef first(): ...\nr = rs.CodeRepository([first])\n",
    )

    assert ["first"] == completion.complete_select(Line("bad"), "")  # type: ignore[arg-type]
