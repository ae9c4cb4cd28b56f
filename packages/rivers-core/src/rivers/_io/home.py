"""Home folders in the paths that users write."""

from __future__ import annotations

import os

from rivers.exceptions import ConfigurationError

__all__ = ["expand_home"]


def expand_home(path: str, name: str) -> str:
    """Return the path with a leading `~` or `~user` replaced by that user's home folder; others as they are.

    `name` is the parameter's, for the error. Raises ConfigurationError where there is no such user or home folder.
    """
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path:
        user = path.partition("/")[0]
        raise ConfigurationError(
            f"invalid {name}={path!r}: expected a path in the home folder of a user, and {user} has none here",
            hint=f"write ./{path} for a folder of that name",
        )
    return expanded
