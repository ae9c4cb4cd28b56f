"""Arguments before they are parsed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

__all__ = ["expand_arguments"]

RETRY_FAILED = "--retry-failed"
LATEST = "latest"
_RUN_ID = re.compile(r"[0-9a-f]{4,32}")


def expand_arguments(arguments: Sequence[str]) -> list[str]:
    """Give `--retry-failed` without a run the value `latest`, as typer has no options with an optional value."""
    return [
        f"{RETRY_FAILED}={LATEST}" if argument == RETRY_FAILED and not _is_run(following) else argument
        for argument, following in zip(arguments, [*arguments[1:], ""], strict=False)
    ]


def _is_run(text: str) -> bool:
    """Return whether a text names a recorded run: an id, the beginning of one, or the path of a record."""
    return text == LATEST or bool(_RUN_ID.fullmatch(text)) or os.path.isfile(os.path.join(text, "events.jsonl"))
