"""Read `--env-file`."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

from rivers.cli.errors import CommandError

__all__ = ["read_env_file"]


def read_env_file(path: Path) -> None:
    """Set the variables of a file of `NAME=value` lines, except those that the environment has already.

    Raises:
        CommandError: the file cannot be read.
    """
    try:
        with path.expanduser().open(encoding="utf-8") as file:
            values = dotenv_values(stream=file)
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandError(f"cannot read --env-file {path}: {problem}") from error
    # A line without `=` has no value.
    for name, value in values.items():
        if value is not None:
            os.environ.setdefault(name, value)
