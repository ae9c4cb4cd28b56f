"""A run leaves the process as it found it, and prints nothing unless asked for."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import rivers as rs

release = threading.Event()


def change_directory() -> None:
    os.chdir("/")


def change_environment() -> None:
    os.environ["RIVERS_TEST"] = "set"
    del os.environ["PATH"]


def change_path() -> None:
    sys.path.append("/rivers-test")


def change_filters() -> None:
    warnings.simplefilter("ignore", UserWarning)


def change_signals() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)


def change_streams() -> None:
    sys.stdout = sys.stderr = None


def change_logging() -> None:
    logging.basicConfig(level=logging.DEBUG, force=True, handlers=[logging.NullHandler()])
    logging.disable(logging.CRITICAL)


def state() -> dict[str, Any]:
    return {
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "filters": list(warnings.filters),
        "signals": signal.getsignal(signal.SIGUSR1),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "logging": (list(logging.root.handlers), logging.root.level, logging.root.manager.disable),
        "interrupts": (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)),
    }


CHANGES = [
    change_directory,
    change_environment,
    change_path,
    change_filters,
    change_signals,
    change_streams,
    change_logging,
]


@contextmanager
def unchanged() -> Iterator[None]:
    before = state()
    yield
    assert before == state()


@pytest.mark.parametrize("listen", [True, False], ids=["observed", "silent"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_body_changes_are_put_back(change: Callable[[], None], listen: bool) -> None:
    """What a body changes in the process is as before for the next body, and after the run."""
    seen: list[dict[str, Any]] = []

    def changes() -> None:
        seen.append(state())
        change()
        assert seen[0] != state(), "the change must change something"

    def looks(changes: None) -> None:
        seen.append(state())

    told = rs.ListSink()
    with unchanged():
        repository = rs.CodeRepository([rs.Asset(changes), rs.Asset(looks)])
        result = repository.materialize(on_event=told if listen else None)

    assert result.success
    assert seen[0] == seen[1]
    if listen:
        assert any("restored" in getattr(event, "message", "") for event in told.events)


def test_after_a_failure_too() -> None:
    """What a failing body changed is put back as well."""

    def fails() -> None:
        os.environ["RIVERS_TEST"] = "set"
        raise ValueError

    with unchanged():
        rs.CodeRepository([rs.Asset(fails)]).materialize(raise_on_error=False)


def test_after_keyboard_interrupt_too() -> None:
    """What an interrupted body changed is put back as well."""

    def interrupted() -> None:
        os.chdir("/")
        raise KeyboardInterrupt

    with unchanged(), pytest.raises(KeyboardInterrupt):
        rs.CodeRepository([rs.Asset(interrupted)]).materialize()


class Credentials(rs.Resource):
    def setup(self) -> None:
        os.environ["RIVERS_TEST_TOKEN"] = "t"


def test_a_resources_environment_lasts_for_the_run() -> None:
    """What setup() puts into the environment is there for every step of the run, and gone after it."""

    def first(credentials: Credentials) -> str:
        return os.environ["RIVERS_TEST_TOKEN"]

    def second(first: str, credentials: Credentials) -> str:
        return os.environ["RIVERS_TEST_TOKEN"]

    with unchanged():
        repository = rs.CodeRepository([rs.Asset(first), rs.Asset(second)], resources={"credentials": Credentials()})
        assert repository.materialize().success


def test_threads_left_are_named() -> None:
    """A thread that a body leaves running is named in a warning; the run ends without waiting for it."""
    release.clear()

    def leaves() -> None:
        threading.Thread(target=release.wait, args=(30,), name="left behind").start()

    told = rs.ListSink()
    try:
        rs.CodeRepository([rs.Asset(leaves)]).materialize(on_event=told)
    finally:
        release.set()

    assert any("left behind" in getattr(event, "message", "") for event in told.events)


@pytest.mark.parametrize("raises", [True, False], ids=["fails", "succeeds"])
def test_nothing_is_printed(raises: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """A run without a sink prints nothing, whether it succeeds or fails, is retried, or warns."""

    def body(context: rs.AssetExecutionContext) -> None:
        context.log.info("a record that nobody asked for")
        if raises:
            raise ValueError

    made = rs.Asset(retry=rs.RetryPolicy(1), timeout=30, compute=rs.Compute(cpu="1"))(body)
    rs.CodeRepository([made]).materialize(raise_on_error=False)

    assert ("", "") == tuple(capfd.readouterr())


def test_prints_go_where_they_always_went(capfd: pytest.CaptureFixture[str]) -> None:
    """What a body prints is on stdout as ever, with a sink and without, once."""

    def prints() -> None:
        print("from the body")

    repository = rs.CodeRepository([rs.Asset(prints)])
    repository.materialize()
    repository.materialize(on_event=rs.ListSink())

    assert "from the body\nfrom the body\n" == capfd.readouterr().out


CLOSED = """
import os, sys
import rivers as rs

@rs.Asset
def closes() -> int:
    os.close(1); os.close(2)
    return 1

@rs.Asset
def prints(closes: int) -> int:
    print("into nothing", flush=True)
    return 2

@rs.Asset
def after(closes: int) -> int:
    return 3

result = rs.CodeRepository([closes, prints, after]).materialize(raise_on_error=False, on_event=rs.ListSink())
states = {name: report.state.value for name, report in result.steps.items()}
os._exit(0 if states == {"closes": "succeeded", "prints": "failed", "after": "succeeded"} else 5)
"""


def test_closed_file_descriptors() -> None:
    """A body that closes fd 1 and 2 breaks printing for bodies, and nothing of the run."""
    done = subprocess.run([sys.executable, "-c", CLOSED], timeout=30, check=False)

    assert 0 == done.returncode
