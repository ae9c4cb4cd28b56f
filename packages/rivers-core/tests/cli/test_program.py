"""The program `rivers` in a process of its own: exit codes, signals, closed pipes, start-up."""

from __future__ import annotations

import os
import resource
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from rivers._record.reader import read_run

sys.path.append(str(Path(__file__).parent))

from cli_project import program, run_program, write

WAITS = """
import pathlib, time
import rivers as rs

@rs.Asset
def waits() -> None:
    pathlib.Path("begun").touch()
    time.sleep(50)

@rs.Asset
def after(waits) -> None: ...

repo = rs.CodeRepository([waits, after])
"""
PRINTS = """
import time
import rivers as rs

@rs.Asset
def prints() -> None:
    for number in range(300):
        print("line", number, flush=True)

@rs.Asset
def more(prints) -> None:
    print("more")

repo = rs.CodeRepository([prints, more])
"""


def test_without_the_extra(tmp_path: Path) -> None:
    """Without typer the program prints one line with the remedy and ends with 2."""
    code = "import sys; sys.modules['typer'] = None; from rivers_cli.main import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50
    )

    assert 2 == ended.returncode
    assert "rivers: the command line needs typer: pip install 'rivers-core[cli]'\n" == ended.stderr


@pytest.mark.parametrize(
    ("arguments", "slow"),
    [(["--help"], {"rivers", "rich"}), (["run", "--help"], {"rivers", "rich"}), (["run", "a"], {"rich", "yaml"})],
)
def test_start_up(tmp_path: Path, arguments: list[str], slow: set[str]) -> None:
    """Help is shown without importing rivers, a run without rich: it takes longer than help and a start may."""
    write(tmp_path / "a.py", "import rivers as rs\nrepo = rs.CodeRepository([])\n")
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: sys.stderr.write(str(sorted({slow} & set(sys.modules)))))\n"
        "from rivers_cli.main import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50
    )

    assert (0, "[]") == (ended.returncode, ended.stderr)


@pytest.mark.parametrize(("executor", "closed"), [("in_process", "1>&-"), ("parallel", "0<&- 1>&- 2>&-")])
def test_started_without_streams(tmp_path: Path, executor: str, closed: str) -> None:
    """A program that was started without standard streams runs to its end, and no print gets into the record."""
    write(tmp_path / "loud.py", PRINTS)
    line = f"{shlex.join(program('run', 'loud.py', '-e', executor))} {closed}"
    ended = subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, capture_output=True, check=False, timeout=50)

    assert (0, b"") == (ended.returncode, ended.stderr)
    (record,) = (tmp_path / ".rivers/runs").iterdir()
    view, damaged = read_run(record)
    assert ("success", []) == (view.status, damaged)


def test_full_stdout(tmp_path: Path) -> None:
    """A run whose standard output is on a full disk warns once and goes on to its end."""
    write(tmp_path / "loud.py", PRINTS)
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            program("run", "loud.py"), cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False, timeout=50
        )

    assert (0, b"warning: cannot write standard output: No space left on device\n") == (ended.returncode, ended.stderr)
    (record,) = (tmp_path / ".rivers/runs").iterdir()
    assert "success" == read_run(record)[0].status


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 4)])
def test_signal(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C and SIGTERM cancel the run, show it and end with 130 and 4."""
    write(tmp_path / "slow.py", WAITS)
    with subprocess.Popen(
        program("run", "slow"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)

    assert code == process.returncode
    assert "was cancelled" in out
    assert "Traceback" not in err
    (record,) = (tmp_path / ".rivers/runs").iterdir()
    assert "cancelled" == read_run(record)[0].status


def test_closed_stdout(tmp_path: Path) -> None:
    """A run whose standard output is closed, also while a body prints, goes on to its end without a complaint."""
    write(tmp_path / "loud.py", PRINTS)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            program("run", "loud.py"), cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=50
        )
    finally:
        os.close(writing)

    assert (0, b"") == (ended.returncode, ended.stderr)
    (record,) = (tmp_path / ".rivers/runs").iterdir()
    assert "success" == read_run(record)[0].status


def test_full_disk(tmp_path: Path) -> None:
    """A record that cannot be written costs one warning; the run goes on, and its end says that it is incomplete."""
    write(tmp_path / "loud.py", PRINTS)
    ended = subprocess.run(
        program("run", "loud"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)),
    )

    assert (0, "") == (ended.returncode, ended.stderr)
    assert "File too large" in ended.stdout
    assert "Record: incomplete, in .rivers/runs/" in ended.stdout


def test_live(tmp_path: Path) -> None:
    """The page of a run is served while it goes on, to those who have the token of its address."""
    write(
        tmp_path / "slow.py",
        WAITS.replace("time.sleep(50)", "[time.sleep(0.02) for _ in range(999) if not GO.exists()]"),
    )
    (tmp_path / "slow.py").write_text(f"import pathlib\nGO = pathlib.Path('go')\n{(tmp_path / 'slow.py').read_text()}")
    with subprocess.Popen(program("run", "slow", "--live"), cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("Live: ").strip()
        with urllib.request.urlopen(address, timeout=20) as answer:
            page = answer.read().decode()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address.partition("?")[0], timeout=20)
        refused.value.close()
        (tmp_path / "go").touch()
        process.communicate(timeout=40)

    assert 0 == process.returncode
    assert address.startswith("http://127.0.0.1:")
    assert "slow:repo" in page


def test_workers_and_lost_worker(tmp_path: Path) -> None:
    """A file target runs on worker processes, and a run that failed for infrastructure alone ends with 3."""
    write(
        tmp_path / "deep/lost.py",
        """
        import os
        import rivers as rs

        @rs.Asset
        def dies() -> None:
            os.kill(os.getpid(), 9)

        @rs.Asset
        def lives() -> int:
            return 1

        repo = rs.CodeRepository([dies, lives])
        """,
    )
    ended = run_program("run", "deep/lost.py", "-e", "parallel", "--set", "max_workers=1", folder=tmp_path)

    assert 3 == ended.code, ended
    assert "1 failed, 1 succeeded" in ended.out
