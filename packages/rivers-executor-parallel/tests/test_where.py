"""Controllers in any script, thread, process or loop, and functions that no worker can import."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import worker_steps as steps

import rivers as rs
from rivers.exceptions import GraphValidationError

CODE = Path(__file__).parent / "user_code"
PROGRAM = """
import functools, os, sys
import rivers as rs

print("imported", flush=True)
WORD = "of main"

class Word:
    def __str__(self):
        return WORD

def helper():
    return str(Word())

@rs.Asset(io_handler="store")
def plain() -> str:
    return helper()

@rs.Asset(io_handler="store")
def other(plain: str) -> list:
    return [plain, __name__, os.getpid() != int(os.environ["CONTROLLER"])]

os.environ["CONTROLLER"] = str(os.getpid())
store = rs.PickleIOHandler(os.environ["STORE"])
repo = rs.CodeRepository([plain, other], resources={"store": store}, default_executor=rs.Executor.parallel(2))
repo.materialize()
print(repo.load_node("other"))
"""
DAEMON = f"""
import os, sys
sys.path.insert(0, {str(CODE)!r})
import worker_steps
import rivers as rs
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        store = rs.PickleIOHandler(os.environ["STORE"])
        executor = rs.Executor.parallel(2)
        with rs.CodeRepository([worker_steps.base, worker_steps.after_base], resources={{"store": store}},
                               default_executor=executor) as repo:
            repo.materialize()
            value = repo.load_node("after_base")
        told = os.open(sys.argv[1], os.O_WRONLY)
        os.write(told, str(value).encode())
    os._exit(0)
"""


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "STORE": str(tmp_path / "store")}


@pytest.mark.parametrize("way", ["script", "-c", "stdin"])
def test_a_program_without_a_main_guard(tmp_path: Path, way: str) -> None:
    """Functions of `__main__` run in workers, from a script, `python -c` or stdin; the program itself runs once."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    arguments = {"script": [str(script)], "-c": ["-c", PROGRAM], "stdin": ["-"]}[way]
    ran = subprocess.run(
        [sys.executable, *arguments],
        input=PROGRAM if way == "stdin" else None,
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        cwd="/",
        timeout=50,
        check=False,
    )

    assert ("imported\n['of main', '__main__', True]\n", "") == (ran.stdout, ran.stderr)


def test_a_daemon(tmp_path: Path) -> None:
    """A process that has forked twice, has no terminal and has closed its streams can run steps in workers."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    subprocess.run([sys.executable, "-c", DAEMON, str(fifo)], env=environment(tmp_path), timeout=50, check=True)

    assert "21" == fifo.read_text()


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_daemonic_process(tmp_path: Path, store: rs.PickleIOHandler, method: str) -> None:
    """A daemonic multiprocessing process, which may have no children of its own, can run steps in workers."""
    make = multiprocessing.get_context(method).Process
    process = make(target=steps.controls, args=(str(tmp_path / "store"),), daemon=True)
    process.start()
    process.join(50)
    code = process.exitcode
    process.close()

    assert 0 == code
    assert 21 == rs.CodeRepository([steps.after_base, steps.base], resources={"store": store}).load_node("after_base")


def test_another_system(repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is refused before anything starts on a system whose kernel lacks what workers need."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")

    with pytest.raises(GraphValidationError, match="does not run on Darwin"):
        repository(steps.base).materialize()


def test_a_fork_has_workers_of_its_own(repository: Callable[..., rs.CodeRepository]) -> None:
    """A fork of a controller runs steps with workers of its own, and closing its copy leaves the controller's alone."""
    repo = repository(steps.pid)
    repo.materialize()
    before = repo.load_node("pid")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            again = rs.CodeRepository(
                [steps.pid], resources=repo._resources, default_executor=rs.Executor.parallel(max_workers=2)
            )
            again.materialize()
            again.shutdown()
            repo.shutdown()
            code = 0 if again.load_node("pid") != before else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert 0 == os.waitstatus_to_exitcode(status)
    repo.materialize()
    assert before == repo.load_node("pid")


def test_threads_that_come_and_go(repository: Callable[..., rs.CodeRepository]) -> None:
    """The kernel ties a worker to the thread that made it: still it outlives the thread that ran the first run."""
    repo = repository(steps.pid, workers=1)
    pids = []

    def run() -> None:
        repo.materialize()
        pids.append(repo.load_node("pid"))

    for _ in range(3):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(30)

    assert 3 == len(pids)
    assert 1 == len(set(pids))


def test_an_application_that_reaps_children(repository: Callable[..., rs.CodeRepository]) -> None:
    """With SIGCHLD ignored no exit code is known; results arrive, and a crash is still one."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        repo = repository(steps.base, steps.after_base, steps.exits_early)
        result = repo.materialize(raise_on_error=False)
        repo.shutdown()
    finally:
        signal.signal(signal.SIGCHLD, before)

    assert {"base": "succeeded", "after_base": "succeeded", "exits_early": "failed"} == {
        key: report.state for key, report in result.steps.items()
    }


def test_runs_at_once(repository: Callable[..., rs.CodeRepository], notes: Callable[[], list[str]]) -> None:
    """Several runs of one repository at the same time have workers of their own and disturb each other not."""
    repo = repository(steps.crowd)
    handles = [repo.submit() for _ in range(3)]

    assert [True] * 3 == [handle.wait(40).success for handle in handles]


def test_a_running_loop(repository: Callable[..., rs.CodeRepository]) -> None:
    """In a notebook, where a loop runs in the main thread, a run works as anywhere."""
    repo = repository(steps.base, steps.after_base)

    async def cell() -> rs.RunResult:
        return repo.materialize()

    assert asyncio.run(cell()).success


def test_functions_without_a_module(repository: Callable[..., rs.CodeRepository]) -> None:
    """Closures, lambdas and partials go to the workers as they are in memory (D3)."""
    here = "captured"

    @rs.Asset(io_handler="store")
    def closure() -> tuple[str, int]:
        return here, os.getpid()

    assets = [
        closure,
        rs.Asset(name="anonymous", io_handler="store")(lambda: [os.getpid()]),
        rs.Asset(name="partial", io_handler="store")(functools.partial(_named, "bound")),
    ]
    repo = repository(*assets)
    repo.materialize()

    (word, pid), [other], (bound, third) = (repo.load_node(asset.name) for asset in assets)
    assert ("captured", "bound") == (word, bound)
    assert os.getpid() not in {pid, other, third}


def _named(word: str) -> tuple[str, Any]:
    return word, os.getpid()
