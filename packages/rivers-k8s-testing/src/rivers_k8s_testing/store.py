"""Store objects with their versions, as etcd and the watch cache do. Used in one thread only."""

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

from rivers_k8s_testing.api_errors import ApiStatusError, ResourceRef, status
from rivers_k8s_testing.selectors import Selector

__all__ = ["Change", "Key", "ListPage", "Store", "Watcher", "now"]

# Plural, namespace and name
Key = tuple[str, str, str]

# Changes from which a watch can start
HISTORY = 20_000
# Lists whose next pages are kept
SNAPSHOTS = 100

_encode = msgspec.json.Encoder().encode
TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results."
)


def now() -> str:
    """Return the time in the format of Kubernetes' objects, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(frozen=True, slots=True)
class Change:
    """An object that was ADDED, MODIFIED or DELETED; `data` is its JSON afterwards."""

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
class ListPage:
    """A page of a list: the objects' JSON, the version for a watch, the next page's token, the objects left."""

    version: int
    items: list[bytes]
    token: str = ""
    remaining: int = 0


class Watcher:
    """A watch with the changes that it has not sent yet."""

    def __init__(self, plural: str, namespace: str, selector: Selector) -> None:
        self.plural = plural
        self.namespace = namespace
        self.selector = selector
        self.changes: deque[Change] = deque()
        self.offered = asyncio.Event()

    def offer(self, change: Change) -> None:
        """Queue a change if the watch selects its object."""
        plural, namespace, _ = change.key
        if plural == self.plural and self.namespace in {"", namespace} and self.selector.matches(change.object):
            self.changes.append(change)
            self.offered.set()


class Store:
    """The objects of a cluster; an object is replaced by `put`, never changed in place."""

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
        """Return the current object."""
        change = self._objects.get(key)
        return None if change is None else change.object

    def data(self, key: Key) -> bytes | None:
        """Return the object's JSON."""
        change = self._objects.get(key)
        return None if change is None else change.data

    def objects(self, plural: str, namespace: str = "") -> list[Mapping[str, Any]]:
        """Return all objects of a kind, in one namespace or in all."""
        return [found.object for key, found in self._objects.items() if key[0] == plural and namespace in {"", key[1]}]

    def create(self, where: ResourceRef, namespace: str, given: Mapping[str, Any]) -> Change:
        """Store a new object with a uid and a creation time.

        Raises:
            ApiStatusError: the name is taken.
        """
        key = (where.plural, namespace, where.name)
        if key in self._objects:
            raise where.exists()
        return self.put(key, {**given, "metadata": self.metadata(where, namespace, given)})

    @staticmethod
    def metadata(where: ResourceRef, namespace: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a new object's metadata: those given, and those that the server adds."""
        own = {"name": where.name, "uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": now()}
        return {**given.get("metadata", {}), **own, **({"namespace": namespace} if namespace else {})}

    def put(self, key: Key, given: Mapping[str, Any]) -> Change:
        """Store a new version of an object and send it to the watches."""
        return self._publish("MODIFIED" if key in self._objects else "ADDED", key, given)

    def delete(self, key: Key) -> Change | None:
        """Delete an object and send that to the watches; return None if it does not exist."""
        last = self._objects.get(key)
        return None if last is None else self._publish("DELETED", key, last.object)

    def _publish(self, kind: str, key: Key, given: Mapping[str, Any]) -> Change:
        # One counter for all kinds, as in etcd: a watch can start at the version of any list.
        self.version += 1
        versioned = {**given, "metadata": {**given["metadata"], "resourceVersion": str(self.version)}}
        change = Change(self.version, kind, key, versioned, _encode(versioned))
        if kind == "DELETED":
            del self._objects[key]
        else:
            self._objects[key] = change
        # The deque drops its oldest change, from which no watch can start any more.
        if len(self._history) == HISTORY:
            self._oldest = self._history[0].version
        self._history.append(change)
        for watcher in self._watchers:
            watcher.offer(change)
        return change

    # ---- lists ------------------------------------------------------------------------------------------------------

    def page(self, plural: str, namespace: str, selector: Selector, limit: int) -> ListPage:
        """Return the first page of a list; 0 is no limit."""
        found = [
            change.data
            for key, change in sorted(self._objects.items())
            if key[0] == plural and namespace in {"", key[1]} and selector.matches(change.object)
        ]
        return self._cut(self.version, found, limit)

    def next_page(self, token: str, limit: int) -> ListPage:
        """Return the next page of a list, as it was at the time of its first page.

        Raises:
            ApiStatusError: 400, the token is malformed; 410, the list is no longer kept.
        """
        try:
            snapshot = json.loads(base64.urlsafe_b64decode(token + "=="))["list"]
        except (ValueError, KeyError, TypeError):
            raise ApiStatusError(
                400, "invalid continue token: continue key is not valid: illegal base64 data"
            ) from None
        if snapshot not in self._snapshots:
            raise ApiStatusError(410, TOO_OLD)
        # A token is good for one page, as the snapshot moves to the next one.
        version, rest = self._snapshots.pop(snapshot)
        return self._cut(version, rest, limit)

    def _cut(self, version: int, found: list[bytes], limit: int) -> ListPage:
        if not limit or len(found) <= limit:
            return ListPage(version, found)
        name = f"{version}-{next(self._numbers)}"
        self._snapshots[name] = (version, found[limit:])
        # Dictionaries keep their order, so the first is the oldest.
        while len(self._snapshots) > SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]
        token = (
            base64.urlsafe_b64encode(json.dumps({"v": "meta.k8s.io/v1", "list": name}).encode()).decode().rstrip("=")
        )
        return ListPage(version, found[:limit], token, len(found) - limit)

    # ---- watches ----------------------------------------------------------------------------------------------------

    def watch(self, watcher: Watcher, since: int | None) -> dict[str, Any] | None:
        """Add a watch, which gets all changes since a version; return the object of an ERROR if that is compacted.

        Without a version the watch starts with all objects as ADDED, as the API server does.
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

    def remove_watcher(self, watcher: Watcher) -> None:
        """Remove a watch that has ended."""
        self._watchers.discard(watcher)

    def compact(self) -> None:
        """Drop the history: no earlier version can be watched or paged from."""
        # The current version is too old as well, so that a client has to list again.
        self.version += 1
        self._oldest = self.version
        self._history.clear()
        self._snapshots.clear()
