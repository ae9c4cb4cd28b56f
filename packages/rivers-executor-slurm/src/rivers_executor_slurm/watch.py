"""Watch the jobs that have not announced their workers: their output files, and the queue."""

from __future__ import annotations

import asyncio

from rivers_executor_slurm.commands import SlurmCommandError, run_command
from rivers_executor_slurm.jobs import BatchJob, read_files
from rivers_executor_slurm.output import parse_output
from rivers_executor_slurm.queue import SQUEUE_FORMAT, JobRecord, evidence_of, explain, parse_squeue
from rivers_worker.client import WorkerError

__all__ = ["JobWatch"]

FIRST_QUERY, QUERY = 3.0, 10.0
"""Seconds from a job's submission to the first squeue, and between two of them."""
FIRST_READ, LAST_READ = 0.05, 1.0
"""Seconds between two looks at the output files; they grow while nothing is new."""
READS = 200
"""Output files that are opened in a second at most: each costs the file server a round trip."""


class JobWatch:
    """The jobs that are watched, and the two loops that do it; each job's `output` gets what they find."""

    def __init__(self) -> None:
        self._jobs: list[BatchJob] = []
        self._is_new = asyncio.Event()
        self._loops = [asyncio.ensure_future(loop()) for loop in (self._read_outputs, self._query_queue)]

    def add(self, job: BatchJob) -> None:
        """Watch a job until its output is done."""
        self._jobs.append(job)
        job.output.add_done_callback(lambda _: self._jobs.remove(job))
        self._is_new.set()

    def close(self) -> None:
        """End the loops."""
        for loop in self._loops:
            loop.cancel()

    async def _read_outputs(self) -> None:
        pause = FIRST_READ
        while True:
            if not self._jobs:
                self._is_new.clear()
            if not self._is_new.is_set():
                await self._is_new.wait()
                pause = FIRST_READ
            jobs = [job for job in self._jobs if job.id]
            for job, content in zip(jobs, await asyncio.to_thread(read_files, [job.path for job in jobs]), strict=True):
                _settle(job, content)
            await asyncio.sleep(max(pause, len(jobs) / READS))
            pause = min(pause * 1.3, LAST_READ)

    async def _query_queue(self) -> None:
        while True:
            await self._is_new.wait()
            # Most jobs on an idle cluster have announced themselves by then.
            await asyncio.sleep(FIRST_QUERY)
            while jobs := [job for job in self._jobs if job.id]:
                try:
                    await _query(jobs)
                except SlurmCommandError as error:
                    for job in jobs:
                        job.report(f"Slurm does not answer: {error}")
                await asyncio.sleep(QUERY)


async def _query(jobs: list[BatchJob]) -> None:
    # All jobs of this user: Slurm looks at no fewer for a list of ids, which may be longer than an argument can be.
    found = parse_squeue(await run_command("squeue", "--me", "-h", "-r", "-t", "all", "-o", SQUEUE_FORMAT))
    for job in jobs:
        if not job.output.done():
            await _judge(job, found.get(job.id))


def _settle(job: BatchJob, content: bytes) -> None:
    """End a start if the output file has the announcement, or the end of the script without one."""
    if job.output.done():
        return
    try:
        output = parse_output(content)
    except WorkerError as error:
        job.refuse(f"job {job.id}: {error}")
        return
    if output.announcement is not None:
        job.output.set_result(output)
    elif output.code is not None:
        words = output.tail or "it has written nothing"
        job.refuse(f"job {job.id} has ended with code {output.code} before a worker could start: {words}")


async def _judge(job: BatchJob, record: JobRecord | None) -> None:
    """Report why a job waits, or end its start if it never will begin or has ended."""
    if record is not None and record.state == "PENDING":
        reason = explain(record.reason)
        if reason.is_fatal:
            job.refuse(f"job {job.id} can never start: {reason.text}", reason.word)
        job.report(f"job {job.id} is pending: {reason.text}")
    elif record is None or record.is_over:
        output = await job.read()
        # Slurm may miss a job for a moment; two times in 10 s is a fact.
        if output.announcement is not None or (record is None and not job.is_missing):
            job.is_missing = True
            return
        evidence = evidence_of(job.id, await job.show() or record, output, is_warm=False)
        state = record.state if record is not None else None
        may_help = evidence.exit_code is None and state != "CANCELLED"
        job.refuse(f"job {job.id} has not started a worker: {evidence.detail}", state, is_transient=may_help)
