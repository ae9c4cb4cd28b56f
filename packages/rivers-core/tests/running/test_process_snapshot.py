"""A run leaves the process as it found it, and prints nothing unless asked for."""

from __future__ import annotations

import decimal
import gc
import importlib
import locale
import logging
import logging.config
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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


def change_timers() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 1000)


def change_timers_of_processor_time() -> None:
    signal.signal(signal.SIGPROF, lambda *_: None)
    signal.signal(signal.SIGVTALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_PROF, 1000, 1000)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1000)


def change_mask() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])


def change_time_zone() -> None:
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def change_time_zone_of_the_library() -> None:
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    del os.environ["TZ"]


def change_locale() -> None:
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_NUMERIC) == "C" else "C")


def change_umask() -> None:
    os.umask(0o012)


def change_interpreter() -> None:
    sys.setrecursionlimit(12_345)
    sys.setswitchinterval(0.5)
    gc.disable()
    gc.set_threshold(1, 2, 3)


def change_hooks() -> None:
    sys.excepthook = sys.unraisablehook = threading.excepthook = warnings.showwarning = lambda *_: None  # type: ignore[assignment]  # any would do


def change_socket_timeout() -> None:
    socket.setdefaulttimeout(3.0)


def change_decimals() -> None:
    decimal.getcontext().prec = 3
    decimal.getcontext().traps[decimal.Inexact] = True


def change_loggers() -> None:
    logging.config.dictConfig({"version": 1})
    shop = logging.getLogger("rivers-test-shop")
    shop.setLevel(logging.ERROR)
    shop.propagate = False
    shop.addHandler(logging.NullHandler())
    shop.addFilter(lambda record: False)


def change_one_logger() -> None:
    logging.getLogger("rivers-test-shop").disabled = True


def change_logging() -> None:
    logging.basicConfig(level=logging.DEBUG, force=True, handlers=[logging.NullHandler()])
    logging.disable(logging.CRITICAL)


def state() -> dict[str, Any]:
    return {
        "directory": os.getcwd(),
        "environment": sorted(os.environ.items()),
        "path": list(sys.path),
        "filters": list(warnings.filters),
        "signals": signal.getsignal(signal.SIGUSR1),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "logging": (list(logging.root.handlers), logging.root.level, logging.root.manager.disable),
        # pytest-timeout's own timer goes on meanwhile.
        "timers": [
            (due > 0, due > 500, repeats)
            for due, repeats in map(signal.getitimer, (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF))
        ],
        "handlers": [*map(signal.getsignal, (signal.SIGALRM, signal.SIGPROF, signal.SIGVTALRM))],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "time zone": (time.tzname, time.localtime(0).tm_hour),
        "locale": locale.setlocale(locale.LC_ALL),
        "umask": umask(),
        "interpreter": (sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), gc.get_threshold()),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning),
        "socket timeout": socket.getdefaulttimeout(),
        "decimals": (decimal.getcontext().prec, dict(decimal.getcontext().traps)),
        "loggers": [
            (logger.level, logger.disabled, logger.propagate, logger.handlers[:], logger.filters[:])
            for logger in map(logging.getLogger, ("rivers-test-shop", "rivers.run", "asyncio"))
        ],
        "interrupts": (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)),
    }


def umask() -> int:
    found = os.umask(0o077)
    os.umask(found)
    return found


CHANGES = [
    change_timers,
    change_timers_of_processor_time,
    change_mask,
    change_time_zone,
    change_time_zone_of_the_library,
    change_locale,
    change_umask,
    change_interpreter,
    change_hooks,
    change_socket_timeout,
    change_decimals,
    change_loggers,
    change_one_logger,
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
    """A body's changes of the process are undone before the next body and after the run."""
    seen: list[dict[str, Any]] = []

    def changes() -> None:
        seen.append(state())
        change()
        assert seen[0] != state(), "the change must change something"

    def looks(changes: None) -> None:
        seen.append(state())

    sink = rs.ListSink()
    with unchanged():
        repository = rs.CodeRepository([rs.Asset(changes), rs.Asset(looks)])
        result = repository.materialize(on_event=sink if listen else None)

    assert result.success
    assert seen[0] == seen[1]
    if listen and change is not change_decimals:  # each step has a copy of those
        assert any(
            isinstance(event, rs.events.StepLog)
            and event.step == "changes"
            and event.message.startswith("after the step")
            for event in sink.events
        )


def test_in_a_worker_too() -> None:
    """Each change is put back and named in a worker process as well, before its next step."""

    def looks() -> str:
        return repr(state())

    assets = [rs.Asset(looks, name="look 0")]
    for number, change in enumerate(CHANGES, 1):
        assets.append(rs.Asset(change, name=change.__name__, deps=[f"look {number - 1}"]))
        assets.append(rs.Asset(looks, name=f"look {number}", deps=[change.__name__]))
    sink = rs.ListSink()
    with rs.CodeRepository(assets, default_executor=rs.Executor.parallel(max_workers=1)) as repository:
        repository.materialize(on_event=sink)
        seen = [repository.load_node(f"look {number}") for number in range(len(CHANGES) + 1)]
    named = {event.step for event in sink.events if isinstance(event, rs.events.StepLog)}

    assert [seen[0]] * len(seen) == seen
    assert {change.__name__ for change in CHANGES} - named <= {"change_decimals"}


IMPORTED = """
import logging, os, sys, threading, warnings
os.environ["RIVERS_TEST_IMPORTED"] = "set"
os.environ["PATH"] = "/changed"
warnings.filterwarnings("ignore", message="rivers-test-imported")
logging.getLogger("rivers-test-known").addHandler(logging.NullHandler())
logging.getLogger("rivers-test-known").setLevel(logging.ERROR)
logging.getLogger("asyncio").disabled = True
sys.path.append("/rivers-test-imported")
sys.setrecursionlimit(sys.getrecursionlimit() + 1)
"""


@pytest.mark.parametrize("executor", [rs.Executor.in_process(), rs.Executor.parallel(max_workers=1)], ids=repr)
def test_what_an_import_adds_stays(executor: rs.Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Additions of a module that a step first imports stay, without a warning; what it replaces is put back."""
    name = f"rivers_test_imported_{executor.kind}"
    (tmp_path / f"{name}.py").write_text(IMPORTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = os.environ["PATH"]

    def look(module: str) -> list[Any]:
        known = logging.getLogger("rivers-test-known")
        importlib.import_module(module)
        return [
            os.environ.get("RIVERS_TEST_IMPORTED"),
            sum("rivers-test-imported" in str(one[1]) for one in warnings.filters),
            (known.level, len(known.handlers)),
            sys.path.count("/rivers-test-imported"),
            sys.getrecursionlimit(),
        ]

    def first() -> list[Any]:
        return look(name)

    def second(first: list[Any]) -> list[Any]:
        return [look(name), os.environ["PATH"], logging.getLogger("asyncio").disabled]

    sink = rs.ListSink()
    try:
        with rs.CodeRepository([rs.Asset(first), rs.Asset(second)], default_executor=executor) as repository:
            repository.materialize(on_event=sink)
            found, later = repository.load_node("first"), repository.load_node("second")
    finally:
        os.environ.pop("RIVERS_TEST_IMPORTED", None)
        sys.path[:] = [one for one in sys.path if one != "/rivers-test-imported"]
        warnings.filters[:] = [one for one in warnings.filters if "rivers-test-imported" not in str(one[1])]  # type: ignore[index]  # a list
        logging.getLogger("rivers-test-known").handlers.clear()
        logging.getLogger("rivers-test-known").setLevel(logging.NOTSET)
        sys.setrecursionlimit(1000)
    messages = [event.message for event in sink.events if isinstance(event, rs.events.StepLog)]

    assert ["set", 1, [logging.ERROR, 1], 1] == [list(one) if isinstance(one, tuple) else one for one in found[:4]]
    assert [found, before, False] == later
    assert ["PATH", "asyncio"] == [message.rpartition(" ")[2] for message in messages]


def test_a_timer_of_the_program_goes_on() -> None:
    """A timer that was pending before the step is left alone, and set again where a body cancels it."""

    def waits() -> None:
        time.sleep(0.01)

    def cancels(waits: None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    handler = signal.signal(signal.SIGPROF, lambda *_: None)
    signal.setitimer(signal.ITIMER_PROF, 1000, 7)
    sink = rs.ListSink()
    try:
        rs.CodeRepository([rs.Asset(waits), rs.Asset(cancels)]).materialize(on_event=sink)
        due, repeats = signal.getitimer(signal.ITIMER_PROF)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
    warned = [event for event in sink.events if isinstance(event, rs.events.StepLog)]

    assert 990 < due <= 1000
    assert 7 == repeats
    assert [("cancels", "after the step: a timer of the program was set again: ITIMER_PROF")] == [
        (event.step, event.message) for event in warned
    ]


FORGOTTEN = """
import signal, sys, time
import rivers as rs

@rs.Asset
def careless() -> int:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    return 1

@rs.Asset
def innocent(careless: int) -> int:
    time.sleep(0.5)
    return 2

if __name__ == "__main__":
    with rs.CodeRepository([careless, innocent], default_executor=getattr(rs.Executor, sys.argv[1])()) as repository:
        repository.materialize()
"""


@pytest.mark.parametrize("kind", ["in_process", "parallel"])
def test_a_forgotten_alarm(kind: str, tmp_path: Path) -> None:
    """An alarm that a body leaves pending does not end the process during the next step."""
    (tmp_path / "script.py").write_text(FORGOTTEN)
    done = subprocess.run([sys.executable, tmp_path / "script.py", kind], timeout=60, check=False)

    assert 0 == done.returncode


def test_after_a_failure_too() -> None:
    """The changes of a failing body are undone as well."""

    def fails() -> None:
        os.environ["RIVERS_TEST"] = "set"
        raise ValueError

    with unchanged():
        rs.CodeRepository([rs.Asset(fails)]).materialize(raise_on_error=False)


def test_after_keyboard_interrupt_too() -> None:
    """The changes of an interrupted body are undone as well."""

    def interrupted() -> None:
        os.chdir("/")
        raise KeyboardInterrupt

    with unchanged(), pytest.raises(KeyboardInterrupt):
        rs.CodeRepository([rs.Asset(interrupted)]).materialize()


class Credentials(rs.Resource):
    def setup(self) -> None:
        os.environ["RIVERS_TEST_TOKEN"] = "t"


def test_a_resources_environment_lasts_for_the_run() -> None:
    """An environment variable that setup() sets is there for every step of the run, and gone after it."""

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

    sink = rs.ListSink()
    try:
        rs.CodeRepository([rs.Asset(leaves)]).materialize(on_event=sink)
    finally:
        release.set()

    assert any("left behind" in getattr(event, "message", "") for event in sink.events)


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
    """A body's prints are on stdout as ever, once, with a sink and without."""

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
