"""Write the fields of IO handlers and resources as JSON, without their secrets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from rivers.exceptions import ConfigurationError
from rivers.protocol.exception_text import describe_exception

__all__ = ["field_json", "secret_fields"]


def field_json(found: BaseModel, what: str) -> str:
    """Return the fields as JSON, if an object that is built from it in this environment has equal fields.

    Secrets are left out, also those of models within: a worker reads them from its own environment.

    Raises:
        ConfigurationError: it has not; names the fields, never their values. `what` says what the object is to whom.
    """
    try:
        text = found.model_dump_json(exclude=secret_fields(found))
        again = type(found).model_validate_json(text)
    except ValidationError as error:
        problems = [".".join(map(str, problem["loc"])) for problem in error.errors(include_input=False)]
    except Exception as error:
        problems = list(_unwritable(found))
        if not problems:
            raise ConfigurationError(
                f"{what}: its fields cannot be written as JSON: {describe_exception(error)}"
            ) from error
    else:
        problems = list(_differing(found, again))
        if not problems:
            return text
    raise ConfigurationError(
        f"{what} ({type(found).__name__}) cannot be rebuilt from its fields as JSON; these differ: "
        f"{', '.join(problems)}",
        hint="keep plain values in fields, secrets in the environment, and make connections in setup()",
    )


def secret_fields(model: BaseModel) -> dict[str, Any]:
    """Return the fields that hold secrets, as pydantic's `exclude` takes them."""
    found: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        # pydantic-settings merges what the environment has into a model within, but not into lists and dicts: those
        # are left to the environment as a whole.
        excluded = secret_fields(value) if isinstance(value, BaseModel) else _holds_secret(value)
        if excluded:
            found[name] = excluded
    return found


def _holds_secret(value: Any) -> bool:
    if isinstance(value, SecretStr | SecretBytes) or hasattr(type(value), "get_secret_value"):
        return True
    if isinstance(value, BaseModel):
        return bool(secret_fields(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(_holds_secret(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, dict):
        return any(map(_holds_secret, value.values()))
    return isinstance(value, list | tuple | set | frozenset) and any(map(_holds_secret, value))


def _differing(found: BaseModel, again: BaseModel, prefix: str = "") -> Iterator[str]:
    for name in type(found).model_fields:
        one, other = getattr(found, name), getattr(again, name)
        if one != other:
            if isinstance(one, BaseModel) and type(one) is type(other):
                yield from _differing(one, other, f"{prefix}{name}.")
            else:
                yield prefix + name


def _unwritable(found: BaseModel) -> Iterator[str]:
    """Yield the fields that cannot be written; with the reason where a serializer of the class gives one."""
    for name in type(found).model_fields:
        try:
            found.model_dump_json(include={name})
        except Exception as error:  # noqa: BLE001 - any error means that this field is one of those to name
            # pydantic gives what a serializer raised as text: "… function `_serialise`: ConfigurationError: the text".
            reason = str(error).partition("Error calling function ")[2].partition("`: ")[2].partition("\n")[0]
            yield f"{name} ({reason})" if reason else name
