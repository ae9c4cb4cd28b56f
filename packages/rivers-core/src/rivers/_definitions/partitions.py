"""Partitions: the keys under which an asset has one value each, such as the days of a table."""

from __future__ import annotations

import re
import zoneinfo
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from rivers._definitions.arguments import argument_error, plain_text, short_repr
from rivers._definitions.hints import list_hint
from rivers._definitions.names import closest
from rivers.exceptions import ConfigurationError, DefinitionError

__all__ = ["ALL", "Partitions", "check_partitions", "is_key", "storage_key"]

ALL = "all"
"""The word for every partition in a selection."""

# What Kubernetes takes as the value of a label: such a key is safe in file names, URLs and command lines, too.
_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?").fullmatch
KEY_RULE = "1 to 63 letters, digits, '-', '_' or '.', the first and the last a letter or a digit, without '..'"


def storage_key(key: str, partition: str | None) -> str:
    """Return the storage key of a partition's value: `orders@2026-11-01`; of an unpartitioned one, its own."""
    return key if partition is None else f"{key}@{partition}"


def is_key(text: str) -> bool:
    """Return whether a text is safe as a key, in whatever place."""
    return _KEY(text) is not None and ".." not in text


class Partitions(ABC):
    """The partitions of an asset: `rs.Partitions.daily("2026-11-01")` or `rs.Partitions.static(["de", "fr"])`.

        @rs.Asset(partitions=rs.Partitions.daily("2026-11-01"))
        def orders(context: rs.AssetExecutionContext) -> list[Order]:
            return fetch(context.partition)

    A run with `materialize(partition="2026-11-03")` makes the value of one partition. Equal definitions are the same.
    """

    __slots__ = ()

    @staticmethod
    def daily(start: date | str, end: date | str | None = None, *, timezone: str = "UTC") -> Partitions:
        """Return one partition for each day, with its ISO date as the key.

        Args:
            start: The first day, as a date or as text such as "2026-11-01".
            end: The last day, included; None is yesterday: a day is a partition once it is over.
            timezone: The zone in which days end, such as "Europe/Berlin".

        Raises:
            ConfigurationError: an argument is invalid.
        """
        first = _day("start", start)
        last = None if end is None else _day("end", end)
        if last is not None and last < first:
            raise argument_error("end", end, f"a day not before start={first.isoformat()!r}, or None")
        _zone(timezone)
        return _Daily(first, last, timezone)

    @staticmethod
    def static(keys: Iterable[str]) -> Partitions:
        """Return the partitions of these keys, in this order.

        Raises:
            ConfigurationError: `keys` is empty or no list, or a key is invalid or there twice.
        """
        if isinstance(keys, str | Mapping) or not isinstance(keys, Iterable):
            raise argument_error("keys", keys, "a list of str", list_hint("keys", keys, (str,)))
        found: dict[str, None] = {}
        for key in keys:
            text = _checked_key(key)
            if text in found:
                raise ConfigurationError(f"invalid keys: {text!r} is there twice")
            found[text] = None
        if not found:
            raise argument_error("keys", keys, "at least one key")
        return _Static(tuple(found))

    @abstractmethod
    def keys(self, now: datetime | None = None) -> tuple[str, ...]:
        """Return all keys in their order, as they are at the time `now`; None is the present."""

    @abstractmethod
    def __contains__(self, key: object) -> bool:
        """Return whether there is a partition of that key at present."""

    def select(self, expression: str) -> tuple[str, ...]:
        """Return the keys that an expression chooses, in their order: `A..B`, `all`, or keys with commas in between.

        Raises:
            ConfigurationError: it names a key that is none, or a range that ends before it begins.
        """
        keys = self.keys()
        wanted: set[str] = set()
        for part in expression.split(","):
            first, dots, last = part.strip().partition("..")
            if part.strip() == ALL:
                wanted.update(keys)
            elif not dots:
                wanted.add(self.check(first))
            else:
                start, end = keys.index(self.check(first)), keys.index(self.check(last))
                if end < start:
                    raise ConfigurationError(f"invalid partitions={part.strip()!r}: expected the earlier key first")
                wanted.update(keys[start : end + 1])
        return tuple(key for key in keys if key in wanted)

    def check(self, key: object) -> str:
        """Return the key as plain text if there is such a partition at present.

        Raises:
            ConfigurationError: there is none; the hint has the closest one.
        """
        text = plain_text(key)
        if text is not None and text in self:
            return text
        near = self._closest(text) if text is not None else None
        raise argument_error("partition", key, self._expected(), f"did you mean {near!r}?" if near else None)

    def _closest(self, text: str) -> str | None:
        return closest(text, self.keys())

    @abstractmethod
    def _expected(self) -> str:
        """Return what a key has to be, in words."""


@dataclass(frozen=True, slots=True, repr=False)
class _Static(Partitions):
    """Partitions with given keys."""

    names: tuple[str, ...]

    def keys(self, now: datetime | None = None) -> tuple[str, ...]:
        return self.names

    def __contains__(self, key: object) -> bool:
        return key in self.names

    def _expected(self) -> str:
        shown = ", ".join(map(repr, self.names[:10]))
        return f"one of {shown}{', …' if len(self.names) > 10 else ''}"

    def __repr__(self) -> str:
        return f"Partitions.static({list(self.names)!r})"


@dataclass(frozen=True, slots=True, repr=False)
class _Daily(Partitions):
    """A partition for each day."""

    start: date
    end: date | None
    timezone: str

    def keys(self, now: datetime | None = None) -> tuple[str, ...]:
        days = (self._last(now) - self.start).days + 1
        return tuple([(self.start + timedelta(number)).isoformat() for number in range(days)])

    def __contains__(self, key: object) -> bool:
        day = _parse(key)
        return day is not None and self.start <= day <= self._last(None)

    def _last(self, now: datetime | None) -> date:
        """Return the last day; before the first one while that is not over."""
        if self.end is not None:
            return self.end
        zone = _zone(self.timezone)
        today = (datetime.now(zone) if now is None else now.astimezone(zone)).date()
        return today - timedelta(1)

    def _closest(self, text: str) -> str | None:
        day, last = _parse(text), self._last(None)
        if last < self.start:
            return None
        return closest(text, self.keys()) if day is None else min(max(day, self.start), last).isoformat()

    def _expected(self) -> str:
        last = self._last(None)
        if last < self.start:
            return f"a day from {self.start.isoformat()} on, once it is over in {self.timezone}"
        over = f", the last that is over in {self.timezone}" if self.end is None else ""
        return f"a day from {self.start.isoformat()} to {last.isoformat()}{over}"

    def __repr__(self) -> str:
        end = f", {self.end.isoformat()!r}" if self.end is not None else ""
        zone = f", timezone={self.timezone!r}" if self.timezone != "UTC" else ""
        return f"Partitions.daily({self.start.isoformat()!r}{end}{zone})"


def check_partitions(given: object, owner: str, error: type[DefinitionError]) -> Partitions | None:
    """Return the setting `partitions` of a definition.

    Raises:
        DefinitionError: it is something else.
    """
    if given is None or isinstance(given, Partitions):
        return given
    hint = None
    if isinstance(given, list | tuple) and given and all(isinstance(key, str) for key in given):
        hint = f"write partitions=rs.Partitions.static({short_repr(list(given))})"
    expected = "rs.Partitions.daily(...), rs.Partitions.static([...]) or None"
    raise argument_error("partitions", given, expected, hint, owner=owner, error=error)


def _checked_key(key: object) -> str:
    text = plain_text(key)
    if text is None or not is_key(text):
        raise argument_error("partition key", key, KEY_RULE)
    if text == ALL:
        raise argument_error("partition key", key, f"another key: {ALL!r} selects every partition")
    return text


def _day(name: str, given: object) -> date:
    # A datetime is a date in Python, and its time of day would be lost.
    day = given if isinstance(given, date) and not isinstance(given, datetime) else _parse(given)
    if day is None:
        hint = f"write {name}={given.date().isoformat()!r}" if isinstance(given, datetime) else None
        raise argument_error(name, given, 'a date, or text such as "2026-11-01"', hint)
    return day


def _parse(text: object) -> date | None:
    """Return the day of an ISO date in its long form, which alone is a key."""
    if not isinstance(text, str):
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.isoformat() == text else None


def _zone(name: object) -> tzinfo:
    text = plain_text(name)
    # Without the system's table of zones, which a small container image may lack.
    if text == "UTC":
        return UTC
    try:
        if text:
            return zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = closest(str(text), zoneinfo.available_timezones())
        hint = f"did you mean {near!r}?" if near else "pip install tzdata, where the system has no zones"
        raise argument_error("timezone", name, 'the name of a zone, such as "Europe/Berlin"', hint) from None
    raise argument_error("timezone", name, 'the name of a zone, such as "Europe/Berlin"')
