"""Parse label and field selectors, as far as a client of pods uses them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rivers_k8s_testing.api_errors import ApiStatusError

__all__ = ["Selector", "parse_selector"]

Labels = Mapping[str, str]
_SET = re.compile(r"^(?P<key>[\w./-]+)\s+(?P<word>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[\w./-]+)\s*(?P<word>==?|!=)\s*(?P<value>[\w.-]*)$")
_EXISTS = re.compile(r"^(?P<no>!?)\s*(?P<key>[\w./-]+)$")
_COMMA = re.compile(r",(?![^(]*\))")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    name: tuple(name.split("."))
    for name in (
        "metadata.name",
        "metadata.namespace",
        "spec.nodeName",
        "status.phase",
        "involvedObject.uid",
        "involvedObject.name",
        "involvedObject.kind",
        "involvedObject.namespace",
        "reason",
        "type",
    )
}


@dataclass(frozen=True)
class Selector:
    """A selector of objects that meet all of its requirements."""

    labels: tuple[Callable[[Labels], bool], ...] = ()
    fields: tuple[Callable[[Mapping[str, Any]], bool], ...] = ()

    def matches(self, given: Mapping[str, Any]) -> bool:
        """Return True if this object is selected."""
        labels = given["metadata"].get("labels") or {}
        return all(holds(labels) for holds in self.labels) and all(holds(given) for holds in self.fields)


def parse_selector(labels: str = "", fields: str = "") -> Selector:
    """Parse the `labelSelector` and `fieldSelector` of a request.

    Raises:
        ApiStatusError: 400, one is malformed or names a field that selectors do not support.
    """
    return Selector(
        tuple(_label(part.strip()) for part in _COMMA.split(labels) if part.strip()),
        tuple(_field(part.strip()) for part in fields.split(",") if part.strip()),
    )


def _label(text: str) -> Callable[[Labels], bool]:
    if found := _SET.match(text):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["word"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.match(text):
        key, value = found["key"], found["value"]
        if found["word"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(text):
        key = found["key"]
        return (lambda labels: key not in labels) if found["no"] else (lambda labels: key in labels)
    raise ApiStatusError(400, f"unable to parse requirement: {text!r}")


def _field(text: str) -> Callable[[Mapping[str, Any]], bool]:
    key, sign, value = text.partition("!=") if "!=" in text else text.partition("=")
    path = _FIELDS.get(key)
    if path is None or not sign:
        raise ApiStatusError(400, f"field label not supported: {key}")
    value = value.removeprefix("=")

    def holds(given: Mapping[str, Any]) -> bool:
        found: Any = given
        for step in path:
            found = found.get(step, "") if isinstance(found, Mapping) else ""
        return (found == value) is (sign == "=")

    return holds
