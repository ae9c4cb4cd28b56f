"""The steps that a step waits for, with the instances of mapped steps."""

from __future__ import annotations

from rivers._record.view import RunView, StepView

__all__ = ["dependencies", "ready_time"]


def dependencies(view: RunView, step: StepView) -> list[StepView]:
    """Return the steps that a step waits for, as far as they are known.

    An instance of a mapped step waits for the instance of the same key, where both steps are mapped.
    """
    if step.header is None or view.header is None:
        return []
    found: list[StepView] = []
    # A collecting step depends on all instances, an instance on one: together as many as there are instances.
    for dep in step.header.deps:
        key = view.header.steps[dep].key
        # Only where both are mapped over the same elements is there an instance of that key.
        twin = view.steps.get(f"{key}[{step.map_key}]") if step.map_key is not None else None
        whole = view.steps.get(key)
        if twin is not None:
            found.append(twin)
        elif whole is not None:
            found.append(whole)
        else:
            found += view.instances.get(key, ())
    return found


def ready_time(view: RunView, step: StepView) -> float | None:
    """Return when the last step ended that a step waits for; None if it waits for none, or one has not ended."""
    ends = [dep.last.ended if dep.last is not None else None for dep in dependencies(view, step)]
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None
