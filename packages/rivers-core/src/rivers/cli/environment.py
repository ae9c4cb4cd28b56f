"""Read `--env-file`."""

from __future__ import annotations

import io
import os
from pathlib import Path

from dotenv.main import DotEnv
from dotenv.parser import parse_stream

from rivers.cli.errors import CommandError

__all__ = ["read_env_file"]


def read_env_file(path: Path) -> None:
    """Set the variables of a file of `NAME=value` lines, except those that the environment has already.

    Raises:
        CommandError: the file cannot be read, or a line of it is no variable.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandError(f"cannot read --env-file {path}: {problem}") from error
    # A line without `=` has no value.
    for binding in parse_stream(io.StringIO(text)):
        if binding.error or "\0" in (binding.value or ""):
            # Not the line itself, which may hold a secret.
            raise CommandError(f"{path}:{binding.original.line}: expected NAME=value")
    for name, value in DotEnv(None, io.StringIO(text)).dict().items():
        if value is not None:
            os.environ.setdefault(name, value)
