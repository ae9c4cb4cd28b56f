"""`rivers-worker serve`: the entry point of the worker image."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from queue import SimpleQueue

from rivers_process.fork import ignore_signal
from rivers_worker.errors import CredentialsError
from rivers_worker.exit_codes import Exit
from rivers_worker.session import WorkerSession
from rivers_worker.settings import ServeSettings

__all__ = ["main", "run"]

SESSION_OPTIONS = {
    "max-attempts": "serve a session of so many attempts of the run, one after another, each in a fresh process",
    "max-age": "seconds after which a session takes no further attempt",
    "idle-ttl": "seconds without an attempt, after the first one, after which a session ends",
    "scratch": "folders, joined by colons, that are emptied after each attempt of a session",
}
"""Options of `serve`, each the same as the variable of its name, and their help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `rivers-worker --version` imports no gRPC for it."""
    parser = argparse.ArgumentParser(
        prog="rivers-worker", description="Runs attempts of steps for the controller that the environment names."
    )
    parser.add_argument("--version", action="version", version=metadata.version("rivers-worker"))
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="announce itself, serve one attempt or a session of several, end")
    serve.add_argument("--module", action="append", default=[], help="a module to import before the spec comes")
    for name, text in SESSION_OPTIONS.items():
        serve.add_argument(f"--{name}", metavar=name.rpartition("-")[2].upper(), help=text)
    options = parser.parse_args(arguments)
    given = {name: getattr(options, name.replace("-", "_")) for name in SESSION_OPTIONS}
    variables = {
        f"RIVERS_{name.replace('-', '_').upper()}": value for name, value in given.items() if value is not None
    }
    try:
        return _serve(ServeSettings.from_environment({**os.environ, **variables}, options.module))
    except CredentialsError as error:
        sys.stderr.write(f"rivers-worker: {error}\n")
        return Exit.CREDENTIALS


def _serve(settings: ServeSettings) -> int:
    # A signal handler must not take a lock, and this queue takes none. The kernel drops SIGTERM for a container's first
    # process as long as that has no handler, so the handler is set before gRPC is loaded.
    ends: SimpleQueue[Exit | None] = SimpleQueue()
    signal.signal(signal.SIGTERM, lambda number, frame: ends.put(Exit.SIGTERM))
    ignore_signal(signal.SIGINT)  # and not by SIG_IGN, which the body's process and its children would inherit
    session = WorkerSession(settings, ends)
    try:
        # Not at the top: the body's process starts while this one loads gRPC and cryptography.
        code: int = importlib.import_module("rivers_worker.serve").serve(settings, session, ends)
    except Exception:  # noqa: BLE001 - whatever it is, no process is left, and the exit code says that it is a bug
        traceback.print_exc()
        code = Exit.BUG
    finally:
        session.end()
    return code


def run() -> None:
    """Run as the console script: exit with the code, and wait for no thread."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
