"""Read `--config`: a YAML or JSON file with the config of assets and tasks, checked against their models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from rivers._definitions.arguments import short_repr
from rivers._definitions.names import closest, did_you_mean
from rivers._plan.plan import Plan
from rivers.cli.errors import CommandError

__all__ = ["check_config", "read_config"]

HINT = "write {asset: {field: value}}"


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """Return the config in a file, by name of asset or task.

    Raises:
        CommandError: the file cannot be read, or is not a mapping of mappings.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandError(f"cannot read --config {path}: {problem}") from error
    try:
        # Every JSON text is YAML, but the errors of a JSON parser fit a JSON file.
        given = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except json.JSONDecodeError as error:
        raise CommandError(f"{path}:{error.lineno}: invalid JSON: {error.msg}", at=_line(text, error.lineno)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        number = mark.line + 1 if mark is not None else 1
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise CommandError(f"{path}:{number}: invalid YAML: {problem}", at=_line(text, number)) from None
    except RecursionError:
        raise CommandError(f"{path}: expected a mapping of asset names: it is nested too deeply", hint=HINT) from None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise CommandError(f"{path}: expected a mapping of asset names, not {short_repr(given)}", hint=HINT)
    for name, fields in given.items():
        if not isinstance(name, str):
            raise CommandError(f"{path}: invalid name {name!r}: expected the name of an asset in quotes", hint=HINT)
        if not (fields is None or (isinstance(fields, dict) and all(isinstance(key, str) for key in fields))):
            raise CommandError(f"{path}: {name}: expected a mapping of fields, not {short_repr(fields)}", hint=HINT)
    return {name: dict(fields or {}) for name, fields in given.items()}


def _line(text: str, number: int) -> str | None:
    lines = text.splitlines()
    return lines[number - 1].strip() if 0 < number <= len(lines) else None


def check_config(path: Path, given: Mapping[str, Mapping[str, Any]], plan: Plan, known: Iterable[str]) -> None:
    """Check the config in a file against the models of the assets and tasks of a plan.

    `known` are the names of all assets: one that is not part of the run is another mistake than a wrong name.

    Raises:
        CommandError: a name or a field is unknown, or a value does not fit; names its path in the file.
    """
    nodes = {node.definition.name: node.definition for step in plan.steps for node in (step.inner or (step.node,))}
    for name, fields in given.items():
        if name not in nodes:
            if name in known:
                raise CommandError(
                    f"{path}: {name}: not part of this run", hint=f"it has {', '.join(list(nodes)[:10])}"
                )
            raise CommandError(f"{path}: {name}: no such asset{did_you_mean(name, nodes)}")
        signature = nodes[name].signature
        model = signature.config_model if signature is not None and signature.context is not None else None
        if model is not None:
            _check_model(f"{path}: {name}", fields, model)


def _check_model(at: str, fields: Mapping[str, Any], model: type[BaseModel]) -> None:
    names: list[str] = []
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        names += [alias] if isinstance(alias, str) else [str(one) for one in getattr(alias, "choices", ())]
        if alias is None or model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name"):
            names.append(name)
    for key in fields:
        # pydantic ignores unknown fields unless the model forbids them: a typing error would go unnoticed.
        if key not in names and model.model_config.get("extra") != "allow":
            raise CommandError(
                f"{at}.{key}: {model.__name__} has no such field{did_you_mean(key, names)}",
                hint=f"its fields are {', '.join(names)}",
            )
    try:
        model.model_validate(dict(fields))
    except ValidationError as error:
        # The first of them: mending one often mends the others.
        problem = error.errors(include_url=False)[0]
        place = "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in problem["loc"])
        message = problem["msg"].replace("Input should be", "expected")
        if problem["type"] == "missing":
            message = "required, and missing"
        else:
            message += f", not {short_repr(problem['input'])}"
        near = _nearest(problem)
        raise CommandError(f"{at}{place}: {message}{near}", hint=f"see {model.__name__}") from None


def _nearest(problem: Mapping[str, Any]) -> str:
    """Return the closest of the values of an enum or a Literal."""
    expected = str(problem.get("ctx", {}).get("expected", ""))
    values = [part.strip().strip("'") for part in expected.replace(" or ", ",").split(",") if part.strip()]
    given = problem["input"]
    near = closest(given, values) if isinstance(given, str) and values else None
    return f"; did you mean {near!r}?" if near else ""
