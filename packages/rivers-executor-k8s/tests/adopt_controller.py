"""A controller to be killed: `python adopt_controller.py FOLDER [RUN]` begins a durable run, or resumes one.

Records and values are in FOLDER. RIVERS_TEST_CONTROLLER holds arguments of `rs.Executor.kubernetes`, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "user_code")]

import adopt_steps  # noqa: E402 - found by the line above
from anywhere import SharedFolder  # noqa: E402

import rivers as rs  # noqa: E402


def main() -> None:
    folder = Path(sys.argv[1])
    settings = json.loads(os.environ.get("RIVERS_TEST_CONTROLLER", "{}"))
    env = {
        name: os.environ[name] for name in ("RIVERS_TEST_NOTES", "RIVERS_TEST_GATES", "RIVERS_TEST_MARK", "PYTHONPATH")
    }
    with rs.CodeRepository(
        adopt_steps.ASSETS,
        default_executor=rs.Executor.kubernetes("test:1", env=env, **settings),
        default_io_handler=SharedFolder(folder / "values"),
    ) as repo:
        if sys.argv[2:]:
            result = repo.resume(sys.argv[2], record=folder)
        else:
            result = repo.materialize(durable=True, record=folder)
        print(result.status, repo.load_node("last"))


if __name__ == "__main__":
    main()
