"""The state of the controller that workers inherit: folder, path, environment, and code."""

from __future__ import annotations

import itertools
import os
import sys

from rivers.exceptions import ExecutionError
from rivers.spi import usable_cpus
from rivers_executor_parallel.code import LoadedCode
from rivers_executor_parallel.pool_id import VARIABLE, new_pool_id
from rivers_executor_parallel.worker import WorkerSettings

__all__ = ["Inheritance"]

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
"""Variables that numerical libraries read at import, each for the number of threads they may start."""
DEPTH = "RIVERS_PARALLEL_DEPTH"
DEEPEST = 2


class Inheritance:
    """Folder, path, environment and modules of this process as its workers get them, from one `renew` to the next."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._code = LoadedCode()
        self._cwd = ""
        self._path: list[str] = []
        self._env: dict[str, str] = {}
        self._started = itertools.count()
        self.modules: list[str] = []
        self.pool_id = new_pool_id(os.environ)

    def renew(self) -> bool:
        """Take over the present state; return whether the workers that are there have inherited the same.

        Raises:
            ExecutionError: this process is a worker's worker already.
        """
        depth = int(os.environ.get(DEPTH, "0"))
        if depth >= DEEPEST:
            raise ExecutionError(
                f"a nested parallel executor would be {depth + 1} deep, expected at most {DEEPEST}",
                hint="run the innermost steps in_process, and set max_workers of the outer executors",
            )
        now = (_cwd(), sys.path[:], dict(os.environ))
        fits = now == (self._cwd, self._path, self._env) and self._code.find_changed() is None
        if not fits:
            self._cwd, self._path, self._env = now
            self._code = LoadedCode()
        self._code.record()
        return fits

    def worker_settings(self) -> WorkerSettings:
        """Return the settings of a new worker."""
        share = str(max(1, usable_cpus() // self._workers))
        env = {**dict.fromkeys(THREADS, share), **self._env}
        env[DEPTH] = str(int(self._env.get(DEPTH, "0")) + 1)
        env[VARIABLE] = f"{self.pool_id}.{next(self._started)}"
        return WorkerSettings(os.getpid(), self._cwd, self._path, env, self.modules)


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return "/"
