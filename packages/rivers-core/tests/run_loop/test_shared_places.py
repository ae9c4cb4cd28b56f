"""`max_steps`: places that sync and async steps share."""

from __future__ import annotations

import rivers as rs
from rivers.spi import Capabilities, Reach
from rivers.testing import Attempt, Script, ScriptedExecutor


def sync_one() -> int:
    return 1


async def async_one() -> int:
    return 1


def test_sync_and_async_steps_share_the_places_of_max_steps() -> None:
    """With max_steps=2 no third attempt is submitted, whatever its kind, until one of the two has ended."""
    can = Capabilities(isolation="none", closures="local", reach=Reach.PROCESS, max_steps=2)
    script = Script(Attempt.hold, capabilities=can)
    assets = [rs.Asset(name=f"{kind}{n}")(body) for n in (1, 2) for kind, body in (("s", sync_one), ("a", async_one))]
    handle = rs.CodeRepository(assets).submit(executor=ScriptedExecutor(script))

    script.attempt("s1"), script.attempt("a1")
    assert ["s1", "a1"] == [attempt.spec.step for attempt in script.attempts]
    script.attempt("s1").succeed()
    script.attempt("s2").succeed()
    script.attempt("a1").succeed()
    script.attempt("a2").succeed()

    assert handle.wait(10).success
