"""Run the command of a `BashTask`, in the worker."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping

from rivers._io.home import expand_home
from rivers.exceptions import ExecutionError

__all__ = ["run_bash"]

# Bytes of stderr in an error's message.
_STDERR_TAIL = 4096

# Becomes the command once a line arrives: when this process dies before the guard is there, it ends.
_GATE = 'read -r go && exec "$0" "$@" </dev/null'
# Waits for the end of a pipe that only this process holds open, then kills the session: after a SIGKILL of this
# process nothing else does.
_GUARD = 'read -r _; kill -9 "-$0"'


def run_bash(
    command: str | list[str],
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    variables: Mapping[str, str] | None = None,
    timeout: float | None = None,
    started: Callable[[Callable[[], None]], None] | None = None,
) -> str:
    """Run a command and return its stdout; `started` gets a function that kills it and all that it has started.

    Raises:
        ExecutionError: the command could not be started, or ended by a signal or with a code other than 0.
        TimeoutError: it ran for more than `timeout` seconds; it and the processes of its session were killed.
    """
    process = _start_command(command, {**os.environ, **(env or {}), **(variables or {})}, cwd)
    guard = _start_guard(process.pid)

    def kill() -> None:
        if process.returncode is None:
            # It may have ended by itself meanwhile.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    try:
        if started is not None:
            started(kill)
        out, err = process.communicate(b"go\n", timeout=timeout)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"the command ran for more than {timeout} s: {command!r:.200}") from None
    finally:
        # Overdue or interrupted: kill it, and do not wait for the end of its output, as a process that left its
        # session may hold the pipes.
        if process.returncode is None:
            kill()
            process.wait()
        guard.kill()
        guard.wait()
        for pipe in (process.stdin, process.stdout, process.stderr, guard.stdin):
            if pipe is not None:
                pipe.close()
    if process.returncode != 0:
        raise _exit_error(command, process.returncode, err)
    return out.decode(errors="replace")


def _start_command(command: str | list[str], env: dict[str, str], cwd: str | None) -> subprocess.Popen[bytes]:
    words = ["/bin/sh", "-c", command] if isinstance(command, str) else command
    try:
        # The gate is found in any case, so a missing command must be looked for here.
        if shutil.which(words[0], path=env.get("PATH")) is None and cwd is None:
            raise FileNotFoundError(f"there is no command {words[0]!r} that can be executed")
        # A session of its own, so that a kill reaches all that the command has started.
        return subprocess.Popen(  # noqa: S603 - running the user's command is what a BashTask is for
            ["/bin/sh", "-c", _GATE, *words],
            env=env,
            cwd=expand_home(cwd, "cwd") if cwd is not None else None,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ExecutionError(f"the command could not be started: {error}: {command!r:.200}") from error


def _start_guard(session: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - a fixed text and a number
        ["/bin/sh", "-c", _GUARD, str(session)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _exit_error(command: str | list[str], code: int, stderr: bytes) -> ExecutionError:
    ended = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    tail = stderr[-_STDERR_TAIL:].decode(errors="replace").strip()
    return ExecutionError(f"the command ended {ended}: {command!r:.200}" + (f"\n{tail}" if tail else ""))
