"""Settings that in-process execution cannot honour are warned of at the run's start."""

from __future__ import annotations

import rivers as rs
from rivers._events.event import RunWarning
from rivers._executor.in_process import InProcessBackend
from rivers._executor.shortfalls import find_shortfalls


def body() -> None: ...


async def async_body() -> None: ...


def warned(*assets: rs.Asset, tasks: list[rs.BashTask] | None = None) -> list[str]:
    sink = rs.ListSink()
    rs.CodeRepository(list(assets), tasks=tasks).materialize(on_event=sink)
    kinds = [type(event).__name__ for event in sink.events]
    assert "RunStarted" == kinds[0]
    return [event.message for event in sink.events if isinstance(event, RunWarning)]


def test_timeout_of_sync_bodies() -> None:
    """One warning names all sync steps whose timeout cannot stop them, and no async or bash step."""
    (warning,) = warned(
        rs.Asset(body, name="first", timeout=60),
        rs.Asset(body, name="second", timeout=60),
        rs.Asset(body, name="untimed"),
        rs.Asset(async_body, timeout=60),
        tasks=[rs.BashTask("bash", "true", timeout=60)],
    )

    assert warning.startswith("timeout= cannot stop first, second on in_process:")
    for name in ("untimed", "async_body", "bash,"):
        assert name not in warning


def test_compute_is_not_provisioned() -> None:
    """One warning names the steps that ask for compute, or for more of it at a retry, where nothing provisions."""
    policy = rs.RetryPolicy(1, escalate=rs.ComputeEscalation(factor=2.0, max_memory="8Gi"))
    (warning,) = warned(
        rs.Asset(body, name="asks", compute=rs.Compute(cpu="1")),
        rs.Asset(async_body, name="escalates", retry=policy),
        rs.Asset(body, name="content"),
    )

    assert warning.startswith("compute= and escalate= change nothing for asks, escalates on in_process:")
    assert "content" not in warning


def test_nothing_to_warn_of() -> None:
    """A plan that asks for nothing special is not warned of."""
    assert [] == warned(rs.Asset(body), rs.Asset(async_body))


def test_many_steps_are_counted() -> None:
    """Beyond ten the steps are counted."""
    repository = rs.CodeRepository([rs.Asset(body, name=f"step_{number:02}", timeout=1) for number in range(30)])
    plan = repository.plan()
    backend = InProcessBackend(rs.Executor.in_process())

    (text,) = find_shortfalls(plan, [backend.capabilities])

    assert "step_09 and 20 more on in_process" in text
    assert "step_10" not in text
