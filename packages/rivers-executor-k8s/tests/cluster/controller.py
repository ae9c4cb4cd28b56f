"""A controller in a process of its own, to be killed or watched: `python controller.py NAMESPACE STORE`.

It prints `begun`, then each event as a line `KIND STEP`, and is over when the run is. RIVERS_TEST_CONTROLLER holds more
arguments of `rs.Executor.kubernetes`, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pod_steps
from real_runs import NO_NOTES, settings

import rivers as rs


class Lines:
    """Prints each event at once."""

    def __call__(self, event: Any) -> None:
        print(type(event).__name__, getattr(event, "step", None) or "-", flush=True)


def main() -> None:
    """Run a repository of quick steps and slow ones, each of them in a pod."""
    namespace, store = sys.argv[1:]
    more = json.loads(os.environ.get("RIVERS_TEST_CONTROLLER", "{}"))
    env = {**NO_NOTES, "RIVERS_TEST_SECONDS": os.environ.get("RIVERS_TEST_SECONDS", "2")}
    assets = [
        rs.Asset(pod_steps.plain, name="plain"),
        pod_steps.one,
        pod_steps.two,
        pod_steps.sleeps,
        pod_steps.after_sleep,
    ]
    print("begun", flush=True)
    with rs.CodeRepository(
        assets,
        default_executor=rs.Executor.kubernetes(**settings(namespace, env=env, **more)),
        default_io_handler=rs.PickleIOHandler(store),
    ) as repo:
        repo.materialize(on_event=Lines())


if __name__ == "__main__":
    main()
