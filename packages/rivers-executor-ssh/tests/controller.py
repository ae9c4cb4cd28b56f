"""A controller that a test kills: runs the step `waits` on the hosts a and b."""

from __future__ import annotations

import sys
from pathlib import Path

from rivers_executor_ssh import SshExecutor


def main(config: str, folder: str, code: str) -> None:
    sys.path[:0] = [code, str(Path(__file__).parent)]
    import ssh_steps

    import rivers as rs

    executor = SshExecutor(
        ["a", "b"], python=sys.executable, cwd=code, config=config, max_workers_per_host=1, orphan_ttl=4, grace=1,
        env={"NOTES": f"{folder}/notes", "GO": f"{folder}/go"},
    )  # fmt: skip
    assets = [ssh_steps.waits, *ssh_steps.many(3)]
    rs.CodeRepository(
        assets=assets, default_executor=executor, default_io_handler=rs.PickleIOHandler(f"{folder}/store", shared=True)
    ).materialize()


if __name__ == "__main__":
    main(*sys.argv[1:])
