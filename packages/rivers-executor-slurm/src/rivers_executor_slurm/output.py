"""Read a job's output file: the announcement of its worker, the end of that, and Slurm's own words; pure.

rivers-job 4711 node7 10.1.0.7:0
rivers-worker 1 40123 MIIB…
slurmstepd-node7: error: StepId=4711.batch exceeded memory limit (230109184 > 209715200), being killed
rivers-end 137
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rivers_worker.announcement import Announcement, announcement_in

__all__ = ["JobOutput", "parse_output"]

_JOB = re.compile(r"^rivers-job (\d+(?:_\d+)?) (\S+) (\S+):0$", re.MULTILINE)
_END = re.compile(r"^rivers-end (\d{1,3})$", re.MULTILINE)
_SLURM = re.compile(r"^slurmstepd\S*: error: (?:\*\*\* )?(.*?)(?: \*\*\*)?$", re.MULTILINE)
_MEMORY = re.compile(r"exceeded memory limit \((\d+) > (\d+)\)")
_OUT_OF_MEMORY = re.compile(r"oom.?kill|out.of.memory", re.IGNORECASE)
_LAST = 5
"""Lines of the output that evidence shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutput:
    """The content of a job's output file; what has not been written yet is None.

    `notes` are Slurm's own words. `peak` and `limit` are bytes, of a job that was ended for its memory.
    """

    job: str | None
    node: str | None
    target: str | None
    announcement: Announcement | None
    code: int | None
    notes: tuple[str, ...]
    is_out_of_memory: bool
    peak: int | None
    limit: int | None
    tail: str


def parse_output(data: bytes) -> JobOutput:
    """Return the content of a job's output file.

    Raises:
        AnnouncementError: the announcement cannot be read.
    """
    text = data.decode(errors="replace")
    # A body's output is captured, and not in this file; what a script of `setup` writes is.
    job, end = _JOB.search(text), _END.findall(text)
    announcement = announcement_in(data) if job else None
    notes = tuple(dict.fromkeys(_SLURM.findall(text)))
    memory = _MEMORY.search("\n".join(notes))
    ours = ("rivers-job ", "rivers-worker ", "rivers-end ", "slurmstepd")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(ours)]
    return JobOutput(
        job=job[1] if job else None,
        node=job[2] if job else None,
        target=f"{job[3]}:{announcement.port}" if job and announcement else None,
        announcement=announcement,
        code=int(end[-1]) if end else None,
        notes=notes,
        is_out_of_memory=memory is not None or any(_OUT_OF_MEMORY.search(note) for note in notes),
        peak=int(memory[1]) if memory else None,
        limit=int(memory[2]) if memory else None,
        tail=" | ".join(lines[-_LAST:])[-1000:],
    )
