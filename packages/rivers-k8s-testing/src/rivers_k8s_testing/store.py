"""Objects with their versions: what etcd and the watch cache are to an API server. Seen by one thread only."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from rivers_k8s_testing.refusals import Refusal, Where, status
from rivers_k8s_testing.selectors import Selector

__all__ = ["Change", "Key", "Page", "Store", "Watcher", "now"]

# Plural, namespace and name
Key = tuple[str, str, str]

# Changes that a watch can still begin from
HISTORY = 20_000
# Lists whose further pages can still be asked for
SNAPSHOTS = 100

_encode = msgspec.json.Encoder().encode
TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results."
)


def now() -> str:
    """The time as objects carry it, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(frozen=True, slots=True)
class Change:
    """An object was ADDED, MODIFIED or DELETED; `data` is the object's JSON after it."""

    version: int
    type: str
    key: Key
    object: Mapping[str, Any]
    data: bytes

    @property
    def line(self) -> bytes:
        """The change as a line of a watch."""
        return b'{"type":"%s","object":%s}\n' % (self.type.encode(), self.data)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: the objects' JSON, where a watch goes on from, the next page's token, and how many are left."""

    version: int
    items: list[bytes]
    token: str = ""
    remaining: int = 0


class Watcher:
    """One watch: the changes that it has not sent yet, as they come."""

    def __init__(self, plural: str, namespace: str, selector: Selector) -> None:
        self.plural = plural
        self.namespace = namespace
        self.selector = selector
        self.changes: deque[Change] = deque()
        self.offered = asyncio.Event()

    def offer(self, change: Change) -> None:
        """Take a change, if it is one of those that were asked for."""
        plural, namespace, _ = change.key
        if plural == self.plural and self.namespace in {"", namespace} and self.selector.matches(change.object):
            self.changes.append(change)
            self.offered.set()


class Store:
    """All objects of a cluster. An object is replaced, never changed: `put` it anew."""

    def __init__(self) -> None:
        self.version = 100
        self._objects: dict[Key, Change] = {}
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._oldest = 0
        self._watchers: set[Watcher] = set()
        self._snapshots: dict[str, tuple[int, list[bytes]]] = {}
        self._numbers = itertools.count(1)

    # ---- objects ----------------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Mapping[str, Any] | None:
        """The object as it is now."""
        change = self._objects.get(key)
        return None if change is None else change.object

    def data(self, key: Key) -> bytes | None:
        """Its JSON."""
        change = self._objects.get(key)
        return None if change is None else change.data

    def objects(self, plural: str, namespace: str = "") -> list[Mapping[str, Any]]:
        """All of a kind, in a namespace or everywhere."""
        return [found.object for key, found in self._objects.items() if key[0] == plural and namespace in {"", key[1]}]

    def create(self, where: Where, namespace: str, given: Mapping[str, Any]) -> Change:
        """Keep a new object, with a uid and a creation time.

        Raises:
            Refusal: the name is taken.
        """
        key = (where.plural, namespace, where.name)
        if key in self._objects:
            raise where.exists()
        return self.put(key, {**given, "metadata": self.metadata(where, namespace, given)})

    @staticmethod
    def metadata(where: Where, namespace: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a server puts into a new object's metadata beside what was given."""
        own = {"name": where.name, "uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": now()}
        return {**given.get("metadata", {}), **own, **({"namespace": namespace} if namespace else {})}

    def put(self, key: Key, given: Mapping[str, Any]) -> Change:
        """Keep a version of an object and tell whoever watches."""
        return self._tell("MODIFIED" if key in self._objects else "ADDED", key, given)

    def delete(self, key: Key) -> Change | None:
        """Forget an object and tell; None where there is none."""
        last = self._objects.get(key)
        return None if last is None else self._tell("DELETED", key, last.object)

    def _tell(self, kind: str, key: Key, given: Mapping[str, Any]) -> Change:
        self.version += 1
        versioned = {**given, "metadata": {**given["metadata"], "resourceVersion": str(self.version)}}
        change = Change(self.version, kind, key, versioned, _encode(versioned))
        if kind == "DELETED":
            del self._objects[key]
        else:
            self._objects[key] = change
        if len(self._history) == HISTORY:
            self._oldest = self._history[0].version
        self._history.append(change)
        for watcher in self._watchers:
            watcher.offer(change)
        return change

    # ---- lists ------------------------------------------------------------------------------------------------------

    def page(self, plural: str, namespace: str, selector: Selector, limit: int) -> Page:
        """The first part of a list; all of it where `limit` is 0."""
        found = [
            change.data
            for key, change in sorted(self._objects.items())
            if key[0] == plural and namespace in {"", key[1]} and selector.matches(change.object)
        ]
        return self._cut(self.version, found, limit)

    def next_page(self, token: str, limit: int) -> Page:
        """A further part of a list, as it was when its first was asked for.

        Raises:
            Refusal: 400, the token is none; 410, the list is forgotten.
        """
        try:
            snapshot = json.loads(base64.urlsafe_b64decode(token + "=="))["list"]
        except (ValueError, KeyError, TypeError):
            raise Refusal(400, "invalid continue token: continue key is not valid: illegal base64 data") from None
        if snapshot not in self._snapshots:
            raise Refusal(410, TOO_OLD)
        version, rest = self._snapshots.pop(snapshot)
        return self._cut(version, rest, limit)

    def _cut(self, version: int, found: list[bytes], limit: int) -> Page:
        if not limit or len(found) <= limit:
            return Page(version, found)
        name = f"{version}-{next(self._numbers)}"
        self._snapshots[name] = (version, found[limit:])
        while len(self._snapshots) > SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]
        token = (
            base64.urlsafe_b64encode(json.dumps({"v": "meta.k8s.io/v1", "list": name}).encode()).decode().rstrip("=")
        )
        return Page(version, found[:limit], token, len(found) - limit)

    # ---- watches ----------------------------------------------------------------------------------------------------

    def watch(self, watcher: Watcher, since: int | None) -> dict[str, Any] | None:
        """Let a watch see what changes from now, after all that has changed since a version; an ERROR's object if gone.

        Without a version it begins with all objects as ADDED, as a server's does.
        """
        if since is None:
            for _, change in sorted(self._objects.items()):
                watcher.offer(Change(change.version, "ADDED", change.key, change.object, change.data))
        elif since < self._oldest:
            return status(410, f"too old resource version: {since} ({self._oldest})")
        else:
            for change in self._history:
                if change.version > since:
                    watcher.offer(change)
        self._watchers.add(watcher)
        return None

    def leave(self, watcher: Watcher) -> None:
        """A watch has ended."""
        self._watchers.discard(watcher)

    def compact(self) -> None:
        """Forget all that was: no version that anybody has seen can be watched or paged from."""
        self.version += 1
        self._oldest = self.version
        self._history.clear()
        self._snapshots.clear()
