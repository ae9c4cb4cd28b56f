"""Bodies that raise errors whose text and attributes come from more than one argument; importable by any worker."""

from __future__ import annotations

import errno
import http
import json
import math
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rivers.exceptions import (
    AssetOutputValidationError,
    InputLoadError,
    OutputCommitError,
    RefResolutionError,
)

__all__ = ["BODIES", "RAISING", "facts_of"]


class ServerError(Exception):
    """Its parameters are not its arguments."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = http.HTTPStatus(status)
        self.body = {"text": text, 1: (b"\xff", [math.inf, None, True]), "big": 10**40}


class Formatted(Exception):
    """Made twice by its constructor it would say everything twice."""

    def __init__(self, message: str, *, retries: int = 3) -> None:
        super().__init__(f"after {retries} tries: {message}")
        self.retries = retries


class Slotted(ValueError):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class Parsed(OSError):
    """Overrides `__init__`, so that OSError reads its arguments only there."""

    def __init__(self, number: int, path: str) -> None:
        super().__init__(number, os.strerror(number), path)
        self.number = number


class Computed(Exception):
    """Has what is no plain data; its constructor makes it again."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = Path(path)


class Position(NamedTuple):
    line: int
    column: int


@dataclass
class Located(Exception):
    position: Position
    name: str

    def __str__(self) -> str:
        return f"{self.name} at {tuple(self.position)}"


class Outer:
    class InnerError(LookupError):
        pass


def no_file() -> None:
    with open("/nowhere/2024.csv"):
        pass


def two_files() -> None:
    os.rename("/nowhere/a", "/nowhere/b")


def undecodable_name() -> None:
    os.stat("/nowhere/\udcff")


def blocks() -> None:
    raise BlockingIOError(errno.EAGAIN, "try again", 5)


def group() -> None:
    inner = ExceptionGroup("inner", [FileNotFoundError(2, "none", "/x"), Outer.InnerError("y")])
    inner.exceptions[0].add_note("while reading")
    raise ExceptionGroup("outer", [inner, ServerError(404, "gone")])


def noted() -> None:
    error = KeyError("x")
    error.add_note("a note")
    raise error


def _raises(error: Callable[[], BaseException]) -> Callable[[], None]:
    def body() -> None:
        raise error()

    return body


RAISING: dict[str, Callable[[], Any]] = {
    "no_file": no_file,
    "two_files": two_files,
    "undecodable_name": undecodable_name,
    "blocks": blocks,
    "group": group,
    "noted": noted,
    "bad_bytes": b"abc\xff".decode,
    "bad_text": "\udcff".encode,
    "bad_code": lambda: exec("a b c"),
    "bad_json": lambda: json.loads('{"a": }'),
    "no_module": lambda: __import__("rivers_has_" + "no_such_module"),
    "no_attribute": lambda: "text".missing,  # type: ignore[attr-defined]
    "no_name": lambda: missing_name,  # type: ignore[name-defined]  # noqa: F821
    "no_key": lambda: dict[str, int]()["x"],
    "exhausted": _raises(lambda: StopIteration(7)),
    "command": lambda: subprocess.run(["sh", "-c", "echo out; exit 3"], check=True, capture_output=True),
    "server": _raises(lambda: ServerError(404, "gone")),
    "formatted": _raises(lambda: Formatted("no answer", retries=5)),
    "slotted": _raises(lambda: Slotted(7)),
    "parsed": _raises(lambda: Parsed(errno.ENOENT, "/nowhere")),
    "located": _raises(lambda: Located(Position(3, 4), "x")),
    "nested": _raises(lambda: Outer.InnerError("deep")),
    "empty": _raises(ValueError),
    "several": _raises(lambda: ValueError("a", 1, None, 2.5, b"x", ("y", ["z"]))),
    "nan": _raises(lambda: ValueError(math.inf, 2**70)),
    "surrogates": _raises(lambda: ValueError("\udc80", 1)),
    "invalid": _raises(lambda: AssetOutputValidationError("no such output", hint="name it")),
    "unstored": _raises(lambda: OutputCommitError("disk full")),
    "unloaded": _raises(lambda: InputLoadError("missing")),
    "unresolved": _raises(lambda: RefResolutionError("nowhere", hint="import it")),
    "computed": _raises(lambda: Computed("/data/x")),
}
"""Bodies by a name."""


def facts_of(error: BaseException) -> dict[str, Any]:
    """Everything that a handler of an error may look at, but for what only exists in one process."""
    names: tuple[str, ...] = (
        "errno",
        "strerror",
        "filename",
        "filename2",
        "characters_written",
        "encoding",
        "object",
        "start",
        "end",
    )
    names += ("reason", "name", "path", "value", "code", "msg", "lineno", "offset", "end_lineno", "end_offset")
    ours = ("__notes__", "result", "run_id", "step", "attempt", "executor")
    found = {name: getattr(error, name, None) for name in names if name != "object" or isinstance(error, UnicodeError)}
    found |= {name: value for name, value in vars(error).items() if name not in ours}
    members = [facts_of(member) for member in error.exceptions] if isinstance(error, BaseExceptionGroup) else error.args
    return {"type": type(error), "args": members, "message": getattr(error, "message", None), **found}


def no_file_asset() -> None:
    RAISING["no_file"]()


def bad_bytes_asset() -> None:
    RAISING["bad_bytes"]()


def bad_json_asset() -> None:
    RAISING["bad_json"]()


def server_asset() -> None:
    RAISING["server"]()


def group_asset() -> None:
    RAISING["group"]()


def no_key_asset() -> None:
    RAISING["no_key"]()


def no_attribute_asset() -> None:
    RAISING["no_attribute"]()


def invalid_asset() -> None:
    RAISING["invalid"]()


def unstored_asset() -> None:
    RAISING["unstored"]()


BODIES = [name for name in globals() if name.endswith("_asset")]
"""Some of them as functions that a worker can import."""
