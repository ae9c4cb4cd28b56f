"""Submit the jobs of a run, alone or as arrays, and cancel them, with as few commands as can be."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rivers_executor_slurm.commands import SlurmCommandError, run_command
from rivers_executor_slurm.executor import SlurmExecutor
from rivers_executor_slurm.output import JobOutput, parse_output
from rivers_executor_slurm.queue import JobRecord, parse_scontrol
from rivers_executor_slurm.script import JobOptions, batch_script, sbatch_arguments
from rivers_worker.remote import StartRefusedError, WorkerOrder

__all__ = ["AGAIN", "BatchJob", "RunJobs", "read_files"]

WINDOW = 0.05
"""Seconds in which workers of an array, or jobs that are cancelled, share one command."""
LARGEST_ARRAY = 1000
"""Slurm's own default of MaxArraySize is 1001."""
SHOW_WITHIN = 2.0
"""Seconds for `scontrol show job`: the result of an attempt waits for it."""
AT_ONCE = 8
"""Calls of sbatch at the same time."""
AGAIN = 5.0
"""Seconds between two tries where Slurm does not answer, or takes no job now."""


class BatchJob:
    """A job from the order of its worker on; `output` is done once that was announced, refused or is not wanted."""

    def __init__(self, order: WorkerOrder, options: JobOptions) -> None:
        self.order = order
        self.options = options
        self.id = ""
        self.path = Path()
        self.is_missing = False
        self.output: asyncio.Future[JobOutput] = asyncio.get_running_loop().create_future()
        self._reported = ""

    def refuse(self, text: str, reason: str | None = None, *, is_transient: bool = False) -> None:
        """End its start."""
        if not self.output.done():
            self.output.set_exception(StartRefusedError(text, reason=reason, is_transient=is_transient))

    def report(self, text: str) -> None:
        """Report what it waits for, once."""
        if text != self._reported:
            self._reported = text
            self.order.report(text)

    async def read(self) -> JobOutput:
        """Return the content of its output file."""
        return parse_output((await asyncio.to_thread(read_files, [self.path]))[0])

    async def show(self) -> JobRecord | None:
        """Return its state, or None if Slurm does not know it any more; raise SlurmCommandError without an answer."""
        try:
            return parse_scontrol(
                await run_command("scontrol", "--oneliner", "show", "job", self.id, within=SHOW_WITHIN)
            )
        except SlurmCommandError as error:
            if error.is_unknown_job:
                return None
            raise


def read_files(paths: list[Path]) -> list[bytes]:
    """Return the contents of files; each is opened, as that is when a client of NFS asks the server."""
    found: list[bytes] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                found.append(file.read(1 << 20))
        except OSError:
            found.append(b"")
    return found


class RunJobs:
    """The jobs of one run; `folder` is on the shared file system, and holds their output files."""

    def __init__(self, executor: SlurmExecutor, folder: Path) -> None:
        self.folder = folder
        self._executor = executor
        self._wanted: list[BatchJob] = []
        self._unwanted: list[str] = []
        self._ids: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)

    def submit(self, job: BatchJob) -> None:
        """Submit a job; one that is not wanted any more is cancelled as soon as Slurm has it."""
        self._wanted.append(job)
        if len(self._wanted) == 1:
            self._spawn(self._submit_soon())

    def cancel(self, job: BatchJob) -> None:
        """Cancel a job; one that has ended, or was not submitted yet, is left alone."""
        if job.id:
            self._unwanted.append(job.id)
            if len(self._unwanted) == 1:
                self._spawn(self._cancel_soon())

    async def close(self, until: float) -> list[str]:
        """Wait until no job is left in the queue, up to a time of the monotonic clock; return what is left."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.0, until - time.monotonic()))
        if self._tasks:
            return [f"Slurm has not answered to sbatch or scancel: look for jobs with output in {self.folder}"]
        left, pause = set(self._ids), 0.1
        while left and time.monotonic() < until:
            with contextlib.suppress(SlurmCommandError):
                # The default states are those of jobs that are pending, running or ending.
                left = self._ids & set((await run_command("squeue", "--me", "-h", "-r", "-o", "%i")).split())
            await asyncio.sleep(pause if left else 0.0)
            pause = min(2 * pause, 2.0)
        return [f"jobs are left in Slurm's queue: {', '.join(sorted(left))}"] if left else []

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _submit_soon(self) -> None:
        await asyncio.sleep(WINDOW if self._executor.array else 0.0)
        wanted, self._wanted = self._wanted, []
        shapes: dict[JobOptions, list[BatchJob]] = {}
        for job in wanted:
            shapes.setdefault(job.options, []).append(job)
        size = LARGEST_ARRAY if self._executor.array else 1
        for jobs in shapes.values():
            for at in range(0, len(jobs), size):
                self._spawn(self._submit_array(jobs[at : at + size]))

    async def _submit_array(self, jobs: list[BatchJob]) -> None:
        """Submit jobs of one shape: as an array, if there are several."""
        token = uuid.uuid4().hex[:12]
        for number, job in enumerate(jobs):
            job.path = self.folder / f"{token}-{number}.out"
        try:
            base = await self._sbatch(jobs, token)
        except (SlurmCommandError, OSError) as error:
            may_help = isinstance(error, SlurmCommandError) and (error.has_no_answer or error.is_at_limit)
            for job in jobs:
                job.refuse(f"sbatch: {error}", is_transient=may_help)
            return
        for number, job in enumerate(jobs):
            job.id = f"{base}_{number}" if len(jobs) > 1 else base
            self._ids.add(job.id)
            # Its attempt was cancelled while sbatch ran.
            if job.output.done():
                self.cancel(job)

    async def _sbatch(self, jobs: list[BatchJob], token: str) -> str:
        """Return the id of the job or of the array, once Slurm has it."""
        paths = [job.path for job in jobs]
        await asyncio.to_thread(_touch, paths)
        name, arguments = sbatch_arguments(self._executor, jobs[0].options, jobs[0].order.spec.step, paths, token)
        script = batch_script(self._executor, jobs[0].options, paths, [job.order.environment for job in jobs])
        while True:
            try:
                async with self._turns:
                    answer = await run_command("sbatch", *arguments, stdin=script)
            except SlurmCommandError as error:
                over = time.monotonic() + AGAIN >= min(job.order.deadline for job in jobs)
                if over or not (error.has_no_answer or error.is_at_limit):
                    raise
                for job in jobs:
                    job.report(f"sbatch: {error}")
                await asyncio.sleep(AGAIN)
                # Slurm may have the job without having answered.
                answer = await _find(name) if error.has_no_answer else ""
            if answer.strip():
                return answer.split()[0].partition(";")[0]

    async def _cancel_soon(self) -> None:
        await asyncio.sleep(WINDOW)
        unwanted, self._unwanted = self._unwanted, []
        # Pending jobs that are not cancelled would run when the queue gets to them, until `orphan_ttl`.
        for _ in range(3):
            with contextlib.suppress(SlurmCommandError):
                await run_command("scancel", "--quiet", *unwanted)
                return


def _touch(paths: list[Path]) -> None:
    for path in paths:
        path.touch(0o600)


async def _find(name: str) -> str:
    """Return the ids of the jobs of a name; nothing if there is none, and wait for the answer."""
    while True:
        try:
            return await run_command("squeue", "-h", "-t", "all", f"--name={name}", "-o", "%F")
        except SlurmCommandError:
            await asyncio.sleep(AGAIN)
