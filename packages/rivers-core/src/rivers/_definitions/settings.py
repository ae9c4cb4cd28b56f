"""Checks of the settings that assets, tasks and outputs share.

`owner` is the definition in the error, such as `asset 'orders'`; `error` is the class of the error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Set

from rivers._definitions.arguments import argument_error, as_text, check_seconds, plain_number, plain_text
from rivers._definitions.hints import call_hint, list_hint
from rivers._definitions.names import closest, did_you_mean
from rivers._io.base import BaseIOHandler
from rivers.exceptions import AssetDefinitionError, ConfigurationError, DefinitionError, InvalidMetadataError

__all__ = [
    "check_environment",
    "check_io_handler",
    "check_metadata_strings",
    "check_optional_bool",
    "check_optional_text",
    "check_placement",
    "check_strings",
    "check_timeout",
    "check_worker_reuse",
    "overrides_in",
]

REUSE_KEY = "rivers/worker_reuse"
PLACEMENT_KEYS = ("rivers/executor", "rivers/node/executor", REUSE_KEY)
WORKER_REUSE = ("never", "run")
_OVERRIDE = re.compile(r"rivers/([a-z][a-z0-9_]*)/([a-z][a-z0-9_]*)")
MAX_TIMEOUT = 30 * 24 * 3600.0
"""Seconds."""


def check_strings(
    values: object, name: str, owner: str, error: type[DefinitionError] = AssetDefinitionError
) -> tuple[str, ...]:
    """Return a list of strings as a tuple, None as an empty one.

    Raises:
        DefinitionError: it is something else; a single string or a dict is the common mistake.
    """
    if values is None:
        return ()
    # Text is iterable, too: tags="ab" would be the tags a and b.
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
        found = tuple(plain_text(value) for value in values)
        if None not in found:
            return found  # type: ignore[return-value]  # no None is left in it
    hint = list_hint(name, values, (str,))
    if isinstance(values, Mapping):
        hint = f"write {name}=[{', '.join(repr(f'{key}:{value}') for key, value in values.items()):.80}], or metadata="
    elif isinstance(values, Iterator | Set | list | tuple):
        hint = None
    raise argument_error(name, values, "a list of str", hint, owner=owner, error=error)


def check_optional_bool(given: object, name: str, owner: str) -> bool | None:
    """Return a setting that is True, False or None.

    Raises:
        AssetDefinitionError: it is neither.
    """
    if isinstance(given, bool | None):
        return given
    raise argument_error(name, given, "True, False or None", None, owner=owner, error=AssetDefinitionError)


def check_optional_text(value: object, name: str, owner: str) -> str | None:
    """Return a str or None.

    Raises:
        AssetDefinitionError: it is something else.
    """
    if value is None or type(value) is str:
        return value
    text = plain_text(value)
    if text is None:
        hint = f"write {name}='{value}'" if plain_number(value) is not None else None
        raise argument_error(name, value, "a str or None", hint, owner=owner, error=AssetDefinitionError)
    return text


def check_environment(
    env: object, owner: str = "", error: type[DefinitionError] = AssetDefinitionError
) -> dict[str, str]:
    """Return environment variables as text, given as a dict of text, numbers or paths.

    Raises:
        DefinitionError: it is something else; a bool is refused, as programs read different words for it.
    """
    if not isinstance(env, Mapping):
        raise argument_error("env", env, 'a dict of variables, such as {"TZ": "UTC"}', owner=owner, error=error)
    found: dict[str, str] = {}
    for key, value in env.items():
        name, text = plain_text(key), as_text(value)
        if name is None or not name or "=" in name or "\x00" in name:
            raise argument_error("env name", key, "a str without =", owner=owner, error=error)
        if text is None or "\x00" in text:
            # Programs read "True", "true", "1" or "yes"; nobody knows which one is meant.
            hint = 'write "1", "true" or what the program expects' if isinstance(value, bool) else None
            hint = "leave it out, or write an empty str" if value is None else hint
            expected = "a str, a number or a path, without NUL"
            raise argument_error(f"env[{name!r}]", value, expected, hint, owner=owner, error=error)
        found[name] = text
    return found


def check_io_handler(
    io_handler: object, owner: str, error: type[DefinitionError] = AssetDefinitionError, name: str = "io_handler"
) -> BaseIOHandler | str | None:
    """Return an IO handler, the name of a resource that is one, or None.

    Raises:
        DefinitionError: it is something else.
    """
    if io_handler is None or isinstance(io_handler, BaseIOHandler):
        return io_handler
    text = plain_text(io_handler)
    if text is not None:
        return text
    hint = call_hint(io_handler)
    if isinstance(io_handler, os.PathLike):
        hint = f"write {name}=rs.PickleIOHandler({os.fspath(io_handler)!r})"
    elif hint is None and hasattr(io_handler, "handle_output"):
        hint = f"derive {type(io_handler).__name__} from rs.BaseIOHandler"
    raise argument_error(
        name, io_handler, "an IO handler, the name of a resource that is one, or None", hint, owner=owner, error=error
    )


def check_metadata_strings(metadata: object, owner: str) -> dict[str, str] | None:
    """Return the metadata of a definition, strings under strings, as a new dict, or None.

    Raises:
        InvalidMetadataError: it is something else.
    """
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise argument_error("metadata", metadata, "a dict of str to str", owner=owner, error=InvalidMetadataError)
    found: dict[str, str] = {}
    for key, value in metadata.items():
        name, text = plain_text(key), plain_text(value)
        if name is None or text is None:
            hint = f"write {{{str(key)!r}: {str(value)!r:.80}}}"
            raise argument_error(
                f"metadata[{key!r:.80}]", value, "a str under a str", hint, owner=owner, error=InvalidMetadataError
            )
        found[name] = text
    return found


def check_placement(metadata: Mapping[str, str] | None, owner: str, error: type[DefinitionError]) -> None:
    """Refuse an unknown `rivers/…` key or `rivers/worker_reuse`: with a typo a step would silently run elsewhere.

    Raises:
        DefinitionError: there is one.
    """
    # With a typo in the key a step would silently run elsewhere.
    for key in metadata or ():
        if key.startswith("rivers/") and key not in PLACEMENT_KEYS and not overrides_in({key: ""}):
            known = f"{', '.join(map(repr, PLACEMENT_KEYS[:-1]))} or {PLACEMENT_KEYS[-1]!r}"
            near = did_you_mean(key, PLACEMENT_KEYS)
            raise error(
                f"{owner}: invalid metadata key {key!r}: it is not one that rivers knows; expected {known}{near}"
            )
    reuse = (metadata or {}).get(REUSE_KEY)
    if reuse is not None:
        check_worker_reuse(f"metadata[{REUSE_KEY!r}]", reuse, owner=owner, error=error)


def overrides_in(metadata: Mapping[str, str] | None) -> dict[str, dict[str, str]]:
    """Return the parameters of executors that metadata overrides, `rivers/<kind>/<parameter>`, as text by kind."""
    found: dict[str, dict[str, str]] = {}
    for key, value in (metadata or {}).items():
        match = _OVERRIDE.fullmatch(key)
        # `rivers/nodes/executor` is a typo of a key of ours.
        if match and match[1] != "node" and match[2] != "executor":
            found.setdefault(match[1], {})[match[2]] = value
    return found


def check_worker_reuse(
    name: str, value: object, *, owner: str = "", error: type[DefinitionError] = ConfigurationError
) -> str:
    """Return "never" or "run".

    Raises:
        DefinitionError: the value is something else; the hint names the closest one.
    """
    text = plain_text(value)
    if text not in WORKER_REUSE:
        near = closest(text, WORKER_REUSE) if text is not None else None
        hint = f"did you mean {near!r}?" if near else None
        raise argument_error(name, value, " or ".join(map(repr, WORKER_REUSE)), hint, owner=owner, error=error)
    return text


def check_timeout(timeout: object, owner: str, error: type[DefinitionError]) -> float | None:
    """Return a timeout of up to 30 days, given in seconds or as a `timedelta`, in seconds, or None.

    Raises:
        DefinitionError: it is something else.
    """
    if timeout is None:
        return None
    return float(check_seconds("timeout", timeout, above=0, most=MAX_TIMEOUT, owner=owner, error=error))
