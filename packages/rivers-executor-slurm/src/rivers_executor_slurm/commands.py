"""Run Slurm's commands, each with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re

from rivers_executor_slurm.script import INHERITED

__all__ = ["SlurmCommandError", "run_command"]

DEADLINE = 30.0
"""Seconds for a command; with its defaults Slurm gives up after 9 to 18 s where slurmctld does not answer."""
_NO_ANSWER = re.compile(
    r"Unable to contact|timed out|Connection refused|Transport endpoint|Zero Bytes|busy", re.IGNORECASE
)
_LIMIT = re.compile(r"job submit limit|SubmitJob|temporarily unable to accept", re.IGNORECASE)


class SlurmCommandError(Exception):
    """A command of Slurm that failed; the text is what it wrote to stderr.

    With `has_no_answer`, slurmctld may still have got the request. With `is_at_limit` it takes no further job now;
    `is_unknown_job` if it does not know the job.
    """

    def __init__(self, text: str, *, has_no_answer: bool = False) -> None:
        super().__init__(text)
        self.has_no_answer = has_no_answer or _NO_ANSWER.search(text) is not None
        self.is_unknown_job = "Invalid job id" in text
        self.is_at_limit = _LIMIT.search(text) is not None


async def run_command(*command: str, stdin: str = "", within: float = DEADLINE) -> str:
    """Return the stdout of a command.

    Raises:
        SlurmCommandError: it is not installed, failed, or did not end in time.
    """
    # sbatch hands its environment on to the job, and SLURM_ variables of a job that this process runs in are options.
    names = (*INHERITED, *(name for name in os.environ if name.startswith("SBATCH_")))
    env = {name: os.environ[name] for name in names if name in os.environ}
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
    except OSError as error:
        raise SlurmCommandError(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(within):
            out, errors = await process.communicate(stdin.encode())
    except TimeoutError:
        raise SlurmCommandError(f"{command[0]} did not end within {within:g} s", has_no_answer=True) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        text = " | ".join(errors.decode(errors="replace").split("\n")).strip(" |")
        raise SlurmCommandError(text or f"{command[0]} exited with {process.returncode}")
    return out.decode(errors="replace")
