"""Define faults of the API server, and the rules by which requests meet them."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rivers_k8s_testing.api_errors import REASONS, status

__all__ = ["Fault", "Faults", "Rule"]

Kind = Literal["answer", "reset", "hang", "slow", "cut", "stall", "line", "error", "duplicate", "replay", "reorder"]
# The kinds of faults that affect only streams: watches, and logs that are followed
STREAMS: frozenset[str] = frozenset({"cut", "stall", "line", "error", "duplicate", "replay", "reorder"})
HALF = b'{"type":"MODIFIED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"hal'
UNKNOWN = b'{"type":"SURPRISE","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"}}}'


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of one request. Create it by one of its methods: `Fault.status(503)`, `Fault.reset()` …"""

    kind: Kind
    code: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: bool = False
    seconds: float | None = None
    events: int | None = None

    # ---- any request ------------------------------------------------------------------------------------------------

    @classmethod
    def status(
        cls,
        code: int,
        message: str = "injected by the test",
        *,
        reason: str | None = None,
        retry_after: float | None = None,
        retry_after_in: Literal["both", "header", "body"] = "both",
    ) -> Fault:
        """Return a Status object in place of the response; `retry_after` seconds go into header, body or both."""
        body = retry_after if retry_after_in != "header" else None
        header = retry_after if retry_after_in != "body" else None
        content = status(code, message, reason, retryAfterSeconds=body)
        headers = {} if header is None else {"Retry-After": f"{header:g}"}
        return cls(kind="answer", code=code, body=json.dumps(content).encode(), headers=headers)

    @classmethod
    def html(cls, code: int = 503) -> Fault:
        """Return a proxy's error page in place of the response."""
        page = f"<html><body><h1>{code} {REASONS.get(code, 'Error')}</h1>\nNo server is available.\n</body></html>\n"
        return cls(kind="answer", code=code, body=page.encode(), headers={"Content-Type": "text/html"})

    @classmethod
    def garbage(cls, body: bytes = b'{"kind": "Po\xff\x00', code: int = 200) -> Fault:
        """Return a malformed body in place of the response."""
        return cls(kind="answer", code=code, body=body)

    @classmethod
    def reset(cls, *, after: bool = False) -> Fault:
        """Reset the connection before the request is handled, or `after`, so that its response is lost."""
        return cls(kind="reset", after=after)

    @classmethod
    def hang(cls, *, after: bool = False) -> Fault:
        """Never respond; with `after` the request is handled first."""
        return cls(kind="hang", after=after)

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """Handle the request `seconds` later."""
        return cls(kind="slow", seconds=seconds)

    # ---- watches, and logs that are followed ------------------------------------------------------------------------

    @classmethod
    def cut(cls, *, events: int | None = None, seconds: float | None = None, mid_json: bool = False) -> Fault:
        """End the stream after so many events or seconds; with `mid_json` the connection breaks within an event."""
        return cls(kind="cut", events=events, seconds=seconds, body=HALF if mid_json else b"")

    @classmethod
    def stall(cls, *, events: int = 0) -> Fault:
        """Send nothing after so many events, and keep the connection open."""
        return cls(kind="stall", events=events)

    @classmethod
    def error(cls, code: int = 410, message: str = "too old resource version: 1 (2)", *, events: int = 0) -> Fault:
        """End the watch with an ERROR event after so many events."""
        event = {"type": "ERROR", "object": status(code, message)}
        return cls(kind="error", body=json.dumps(event).encode(), events=events)

    @classmethod
    def line(cls, data: bytes = b"<garbage>", *, events: int = 0) -> Fault:
        """Send a malformed line, such as `b"null"`, after so many events; then go on."""
        return cls(kind="line", body=data, events=events)

    @classmethod
    def unknown_type(cls, *, events: int = 0) -> Fault:
        """Send an event of an unknown type after so many events; then go on."""
        return cls.line(UNKNOWN, events=events)

    @classmethod
    def duplicate(cls) -> Fault:
        """Send every event twice."""
        return cls(kind="duplicate")

    @classmethod
    def replay(cls, *, events: int = 3) -> Fault:
        """Send the first events once more after so many; then go on."""
        return cls(kind="replay", events=events)

    @classmethod
    def reorder(cls) -> Fault:
        """Swap two events that follow each other within 0.2 s."""
        return cls(kind="reorder", seconds=0.2)


@dataclass(eq=False, kw_only=True)
class Rule:
    """A rule for the requests that meet a fault; `hits` counts those that have."""

    faults: tuple[Fault, ...]
    verb: str
    resource: str
    name: str
    dry_run: bool | None
    times: int | None
    rate: float
    every: int
    random: random.Random
    seen: int = 0
    hits: int = 0

    def take(self, verb: str, resource: str, name: str, dry_run: bool) -> Fault | None:
        """Return the fault that a request meets by this rule, if any."""
        wanted = ((self.verb, verb), (self.resource, resource), (self.name, name))
        # The order matters: a request that a rule excludes must not count for `every` and the drawing of faults.
        if self.dry_run not in {None, dry_run}:
            return None
        if (self.times is not None and self.hits >= self.times) or any(rule not in {"*", is_} for rule, is_ in wanted):
            return None
        fault = self.faults[0] if len(self.faults) == 1 else self.random.choice(self.faults)
        if fault.kind in STREAMS and verb != "watch" and resource != "pods/log":
            return None
        self.seen += 1
        if self.seen % self.every or (self.rate < 1 and self.random.random() >= self.rate):
            return None
        self.hits += 1
        return fault


class Faults:
    """The faults of a cluster; they can be changed at any time, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    def add(
        self,
        *faults: Fault,
        verb: str = "*",
        resource: str = "*",
        name: str = "*",
        dry_run: bool | None = None,
        times: int | None = None,
        rate: float = 1.0,
        every: int = 1,
        seed: int = 0,
    ) -> Rule:
        """Let certain requests meet a fault; of several one is drawn by `seed`.

        A request is described as RBAC does it: `verb` get, list, watch, create, update or delete; `resource` such as
        pods, pods/log, leases, events; `name` of the object. `*` is any. `dry_run=False` excludes dry runs, True
        all others. Of those, each `every`-th meets the fault with probability `rate`, until `times` have. The first
        rule that applies counts, in the order they were added.
        """
        if not faults:
            raise ValueError("invalid faults=(): expected at least one Fault")
        rule = Rule(
            faults=faults,
            verb=verb,
            resource=resource,
            name=name,
            dry_run=dry_run,
            times=times,
            rate=rate,
            every=every,
            random=random.Random(seed),  # noqa: S311 – repeatable, not secret
        )
        with self._lock:
            self._rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Remove a rule; do nothing if it is not there."""
        with self._lock:
            self._rules = [other for other in self._rules if other is not rule]

    def clear(self) -> None:
        """Remove all rules; streams that already meet a fault keep it."""
        with self._lock:
            self._rules = []

    def take(self, verb: str, resource: str, name: str = "", *, dry_run: bool = False) -> Fault | None:
        """Return the fault that a request meets, if any, and count it."""
        with self._lock:
            for rule in self._rules:
                fault = rule.take(verb, resource, name, dry_run)
                if fault is not None:
                    return fault
        return None
