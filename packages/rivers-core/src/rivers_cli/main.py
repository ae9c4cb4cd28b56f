"""The entry point of the program `rivers`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from rivers_cli.streams import make_robust

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process; without the extra `cli` print how to install it and exit with 2."""
    make_robust()
    missing = [name for name in ("typer", "rich", "yaml") if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"rivers: the command line needs {', '.join(missing)}: pip install 'rivers-core[cli]'\n")
        raise SystemExit(2)
    # Only now: they are an optional extra.
    from rivers_cli.app import app
    from rivers_cli.arguments import expand_arguments

    app(expand_arguments(sys.argv[1:]), prog_name="rivers")
