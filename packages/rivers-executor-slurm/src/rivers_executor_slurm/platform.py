"""Start workers as jobs: submit, wait for the announcement in the job's output file, look at its end.

    sbatch ──▶ queue ──▶ script ──▶ announcement ──▶ dialled ──▶ connection breaks ──▶ scontrol show job ──▶ evidence
                 └── squeue, every 10 s: the reason for which it waits

Slurm is asked about jobs without an announcement and about lost ones; the others are known by their connection.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rivers.exceptions import Problem
from rivers.protocol import Evidence, StepSpec
from rivers_executor_slurm.commands import SlurmCommandError, run_command
from rivers_executor_slurm.executor import SlurmExecutor
from rivers_executor_slurm.jobs import AGAIN, BatchJob, RunJobs
from rivers_executor_slurm.output import JobOutput
from rivers_executor_slurm.queue import evidence_of
from rivers_executor_slurm.script import JobOptions, job_options
from rivers_executor_slurm.watch import JobWatch
from rivers_worker.remote import RemoteWorker, WorkerOrder, WorkerPlatform

__all__ = ["SlurmPlatform", "SlurmWorker"]

LOOKS = (0.0, 0.3, 0.7, 1.5, 2.0, 5.0, 10.0, 20.0)
"""Seconds before each look at a job whose connection has broken."""
LAST_WORD = 0.7
"""The pause from which on the end of the script is enough."""
OWN_END = 1.0
"""Seconds in which a worker that was acknowledged ends by itself."""
MOST_CHECKED, CHECK_WITHIN = 20, 60.0
"""Shapes of jobs that preflight has Slurm check, and the seconds for which it waits for Slurm."""
NOT_AVAILABLE = "node configuration is not available"


class SlurmWorker(RemoteWorker):
    """A worker in a job."""

    def __init__(self, jobs: RunJobs, job: BatchJob, output: JobOutput, *, is_warm: bool) -> None:
        assert output.announcement is not None
        assert output.target is not None
        self._jobs = jobs
        self._job = job
        self._is_warm = is_warm
        self.name, self.node = f"job {job.id}", output.node
        self.announcement, self.target = output.announcement, output.target
        self._end: asyncio.Future[Evidence] = asyncio.get_running_loop().create_future()
        self._look: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """True once its end was seen."""
        return self._end.done()

    async def wait_until_over(self) -> Evidence:
        """Wait until a look at the job, after its connection has broken, finds that it has ended."""
        return await asyncio.shield(self._end)

    def suspect(self) -> None:
        """Look at the job."""
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(self._look_at_job())

    async def stop(self) -> None:
        """Cancel the job, unless it ends by itself: a pilot waits for steps, any other job has served its own."""
        # scancel would mark a job that has done its work as CANCELLED, in the accounting of the cluster.
        until = time.monotonic() + (0.0 if self._is_warm else OWN_END)
        while (await self._job.read()).code is None:
            # One that has ended is cancelled as well: it may be about to run again.
            if self.is_over or time.monotonic() >= until:
                self._jobs.cancel(self._job)
                break
            await asyncio.sleep(0.1)
        if self._look is not None:
            self._look.cancel()

    async def _look_at_job(self) -> None:
        for pause in LOOKS:
            await asyncio.sleep(pause)
            # Several times: a job whose processes get SIGTERM is COMPLETING, up to KillWait, before it has ended.
            record, is_known = None, True
            try:
                record = await self._job.show()
            except SlurmCommandError:
                is_known = False
            output = await self._job.read()
            is_over = is_known and (record is None or record.is_over)
            # The script writes its end also where Slurm does not answer, or waits for other processes of the job.
            if is_over or (output.code is not None and pause >= LAST_WORD):
                if not self.is_over:
                    self._end.set_result(evidence_of(self._job.id, record, output, is_warm=self._is_warm))
                return


class SlurmPlatform(WorkerPlatform):
    """The jobs of one run."""

    logger = "rivers.slurm"

    def __init__(self, executor: SlurmExecutor) -> None:
        self._executor = executor
        self._jobs: RunJobs | None = None
        self._watch: JobWatch | None = None

    async def check(self, specs: Sequence[StepSpec]) -> list[Problem]:
        """Have Slurm check a job of each shape, without submitting any."""
        found: dict[str, Problem] = {}
        until = time.monotonic() + CHECK_WITHIN
        shapes = {self.shape(spec): spec.step for spec in specs}
        for options, step in list(shapes.items())[:MOST_CHECKED]:
            error = await _check(options, until)
            # Slurm also refuses a check so while nodes are drained; sbatch itself knows the difference.
            if error is not None and NOT_AVAILABLE not in str(error):
                found.setdefault(str(error), Problem(f"Slurm refuses its job: {error}", step))
        return list(found.values())

    def shape(self, spec: StepSpec) -> JobOptions:
        """Return the options of sbatch for a step."""
        return job_options(self._executor, spec)

    async def open(self, run_id: str, warn: Callable[[str], None]) -> None:
        """Make the folder of the run's output files, which only this user can read."""
        base = self._executor.folder or "~/.rivers/slurm"
        self._jobs = RunJobs(self._executor, await asyncio.to_thread(_make_folder, base, run_id))
        self._watch = JobWatch()

    async def start(self, order: WorkerOrder) -> RemoteWorker:
        """Submit a job, and return its worker once that has announced itself."""
        assert self._jobs is not None
        assert self._watch is not None
        job = BatchJob(order, self.shape(order.spec))
        self._jobs.submit(job)
        self._watch.add(job)
        try:
            return SlurmWorker(self._jobs, job, await job.output, is_warm=self._executor.is_warm)
        except BaseException:
            self._jobs.cancel(job)
            raise

    async def close(self, deadline: float) -> list[str]:
        """Wait until no job of the run is left in the queue, and remove its folder."""
        if self._jobs is None or self._watch is None:
            return []
        self._watch.close()
        problems = await self._jobs.close(time.monotonic() + deadline)
        await asyncio.to_thread(shutil.rmtree, self._jobs.folder, ignore_errors=True)
        return problems


async def _check(options: JobOptions, until: float) -> SlurmCommandError | None:
    """Return Slurm's refusal of a job; wait for its answer until a time of the monotonic clock."""
    while True:
        try:
            await run_command("sbatch", "--test-only", *options.arguments, stdin="#!/bin/sh\n")
        except SlurmCommandError as error:
            if not error.has_no_answer or time.monotonic() >= until:
                return error
            await asyncio.sleep(AGAIN)
        else:
            return None


def _make_folder(base: str | os.PathLike[str], run_id: str) -> Path:
    folder = Path(base).expanduser().absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{run_id[:40]}-", dir=folder))
