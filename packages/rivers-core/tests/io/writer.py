"""A process that stores values and is killed, stopped or starved while it does. Run by the tests, one mode each.

kills FOLDER COUNT      fork COUNT writers, SIGKILL each at a random moment, check everything after each
races FOLDER COUNT      two processes commit the same COUNT steps at the same time
runs FOLDER COUNT       two processes store the same keys in two runs at the same time
die FOLDER CALL AFTER   SIGKILL this process at the (AFTER+1)-th call of os.CALL, while it commits
stop FOLDER             SIGSTOP this process before its commit
once FOLDER             store one value and leave
small FOLDER / big FOLDER / nobody FOLDER    store 1 B / 3 MB / as a user without rights; print the error
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rivers._io.shared.default_store import DefaultStore
from rivers.exceptions import InputLoadError, OutputCommitError
from rivers.io_handlers import AtomicIOHandler, InputContext, OutputContext, PickleIOHandler

SEVERAL = 3


def handler_in(folder: str, fsync: bool = True) -> AtomicIOHandler:
    """Return the handler to test: the one of the variable, or a PickleIOHandler."""
    if os.environ.get("WRITER_HANDLER") == "default":
        Path(folder).chmod(0o700)
        return DefaultStore(folder=folder)
    return PickleIOHandler(folder, fsync=fsync)


def output(key: str, run: str, attempt: str, step: str | None = None) -> OutputContext:
    return OutputContext(key, run_id=run, step=step or key, attempt_id=attempt)


def read(handler: AtomicIOHandler, key: str, run: str | None = None) -> Any:
    return handler.load_input(InputContext(key, run_id=run))


def payload(step: str, key: str) -> tuple[str, str, bytes]:
    """Return a value whose size follows from its names, so that it shows whether it is whole."""
    return step, key, bytes(random.Random(step + key).randrange(200_000))


def keys_of(step: str) -> list[str]:
    """Return a step's keys: every other step has several."""
    return [f"{step}.{number}" for number in range(SEVERAL)] if int(step.partition("-")[2]) % 2 else [step]


def commit(handler: AtomicIOHandler, run: str, step: str) -> None:
    keys = keys_of(step)
    if keys == [step]:
        handler.handle_output(output(step, run, f"{run}.{step}"), payload(step, step))
        return
    for key in keys:
        handler.stage(output(key, run, f"{run}.{step}", step), payload(step, key))
    handler.commit(run, step, f"{run}.{step}", keys)


def kills(folder: str, count: int) -> None:
    handler = handler_in(folder, fsync=False)
    seed = random.randrange(10**9)
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    reported = committed = lost = 0
    for number in range(count):
        run = f"run{number}"
        said = kill_one(handler, run, chance.uniform(0, 0.006))
        for index in range(len(said) + 1):
            step = f"s{number}-{index}"
            told = step in said
            winner = handler.committed(run, step)
            assert winner == (f"{run}.{step}" if told else winner), f"{step} was reported and is lost"
            reported += told
            committed += winner is not None
            lost += winner is None
            for key in keys_of(step):
                check_key(handler, run, step, key, visible=winner is not None)
        handler.end_run(run)
        runs = Path(folder, ".rivers/runs")
        left = list(runs.iterdir()) if runs.exists() else []  # there is none when the first kills came very early
        assert not left, left
    strays = [
        path
        for path in Path(folder).rglob("*")
        if path.is_file() and path.suffix != ".pkl" and "ended" not in str(path)
    ]
    assert not strays, strays
    print(f"kills {count} reported {reported} committed {committed} unfinished {lost}")


def kill_one(handler: AtomicIOHandler, run: str, after: float) -> list[str]:
    """Fork a writer, kill it `after` seconds past its first byte; return the steps it has reported."""
    reader, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(pipe, b"ready\n")
        index = 0
        while True:
            step = f"s{run[3:]}-{index}"
            commit(handler, run, step)
            os.write(pipe, f"{step}\n".encode())
            index += 1
    os.close(pipe)
    said = os.read(reader, 6)
    time.sleep(after)  # the random moment
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while chunk := os.read(reader, 65536):
        said += chunk
    os.close(reader)
    return said.decode().split("\n")[1:-1]


def check_key(handler: AtomicIOHandler, run: str, step: str, key: str, *, visible: bool) -> None:
    for version in (run, None):
        try:
            value = read(handler, key, version)
        except InputLoadError as error:
            if visible or not error.retryable:
                raise AssertionError(f"{key} is committed and not visible, or damaged") from error
        else:
            assert visible, f"{key} is visible and not committed"
            assert value == payload(step, key), f"{key} is torn"


def two(folder: str, count: int, work: Any) -> None:
    """Run `work` in two processes that wait for each other before each round; print the results of both."""
    fork = multiprocessing.get_context("fork")
    barrier, answers = fork.Barrier(2), fork.Queue()
    both = [fork.Process(target=work, args=(folder, count, name, barrier, answers)) for name in ("left", "right")]
    for process in both:
        process.start()
    for _ in both:
        print(answers.get(timeout=50))
    for process in both:
        process.join()
        assert process.exitcode == 0, process.exitcode


def race(folder: str, count: int, name: str, barrier: Any, answers: Any) -> None:
    handler = handler_in(folder, fsync=False)
    won = []
    for number in range(count):
        step = f"s-{number}"
        barrier.wait(30)
        try:
            if number % 2:
                for key in keys_of(step):
                    handler.stage(output(key, "run", name, step), name)
                handler.commit("run", step, name, keys_of(step))
            else:
                handler.handle_output(output(step, "run", name), name)
        except OutputCommitError as error:
            if error.retryable:
                raise
        else:
            won.append(number)
        barrier.wait(30)
        holder = handler.committed("run", step)
        values = {read(handler, key, version) for key in keys_of(step) for version in ("run", None)}
        assert values == {holder}, (values, holder)
        assert (holder == name) == (won[-1:] == [number])
    answers.put(f"{name} {len(won)}")


def in_runs(folder: str, count: int, name: str, barrier: Any, answers: Any) -> None:
    handler = handler_in(folder, fsync=False)
    for number in range(count):
        key = f"k-{number % 7}"
        run = f"{name}{number}"
        barrier.wait(30)
        handler.handle_output(output(key, run, run), (run, bytes(number * 100)))
        assert read(handler, key, run) == (run, bytes(number * 100))
        latest, filler = read(handler, key)
        assert latest in {f"left{number}", f"right{number}"}
        assert len(filler) == number * 100
        barrier.wait(30)
        handler.end_run(run)
    answers.put(f"{name} {count}")


def die(folder: str, call: str, after: int) -> None:
    """Kill this process for real, at an exact place."""
    real = getattr(os, call)
    left = after

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(*arguments, **options)

    handler = handler_in(folder)
    for key in ("x", "y"):
        handler.stage(output(key, "run1", "a1", "multi"), key)
    setattr(os, call, deadly)
    handler.commit("run1", "multi", "a1", ("x", "y"))
    handler.handle_output(output("k", "run1", "a1"), "k")


def stop(folder: str) -> None:
    real = os.link

    def sleepy(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGSTOP)
        return real(*arguments, **options)

    os.link = sleepy
    attempt(handler_in(folder), "zombie")


def attempt(handler: AtomicIOHandler, value: object) -> None:
    try:
        handler.handle_output(output("k", "run1", "a1"), value)
    except OutputCommitError as error:
        print(f"retryable={error.retryable}\n{error}")
    else:
        print("stored")


def main(mode: str, folder: str, *rest: str) -> None:
    if mode == "kills":
        kills(folder, int(rest[0]))
    elif mode in {"races", "runs"}:
        two(folder, int(rest[0]), race if mode == "races" else in_runs)
    elif mode == "die":
        die(folder, rest[0], int(rest[1]))
    elif mode == "stop":
        stop(folder)
    else:
        handler = handler_in(folder)
        handler.committed("warm", "up")  # everything is imported before rights are given up
        if mode == "nobody":
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        attempt(handler, bytes({"big": 3_000_000}.get(mode, 1)))


if __name__ == "__main__":
    main(*sys.argv[1:])
