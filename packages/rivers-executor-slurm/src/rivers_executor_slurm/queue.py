"""Read the answers of squeue and scontrol: why a job waits, and how it ended; pure.

States and reasons: slurm.schedmd.com/job_state_codes.html, slurm.schedmd.com/job_reason_codes.html.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rivers.protocol import Evidence
from rivers_executor_slurm.output import JobOutput

__all__ = ["SQUEUE_FORMAT", "JobRecord", "PendingReason", "evidence_of", "explain", "parse_scontrol", "parse_squeue"]

SQUEUE_FORMAT = "%i|%T|%r"

_ENDED = {
    "BOOT_FAIL": "its node did not boot",
    "CANCELLED": "it was cancelled by somebody else",
    "COMPLETED": "its script ended",
    "DEADLINE": "it reached its deadline",
    "FAILED": "its script failed",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it used more memory than it asked for",
    "PREEMPTED": "another job took its place",
    "REVOKED": "another cluster took it over",
    "TIMEOUT": "it reached its time limit",
}
_REQUEUED = ("REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")

# The first pattern that matches counts. Fatal is what no waiting mends: the job itself breaks a limit.
_REASONS: tuple[tuple[str, str, bool], ...] = (
    (r"None|WaitingForScheduling|Prolog", "the scheduler has not looked at it yet", False),
    (r"Resources", "the resources that it asks for are in use", False),
    (r"Priority", "jobs of a higher priority come first", False),
    (r"PartitionTimeLimit", "its time limit is above that of the partition", True),
    (r"(Assoc|QOS)\w*(Wall\w*PerJob|TimeLimit)\w*", "its time limit is above what its account or QOS allows", True),
    (r"(Assoc|QOS)Max\w*Per(Job|Node)\w*", "it asks for more than its account or QOS allows a job", True),
    (r"QOSMin\w*", "it asks for less than its QOS demands of a job", True),
    (r"AssocGrp\w*|AssociationResourceLimit", "its account has reached a limit that its jobs share", False),
    (r"QOSGrp\w*|QOSResourceLimit", "its QOS has reached a limit that its jobs share", False),
    (r"QOS\w*Job\w*|AssocMaxJobs\w*|AssociationJobLimit", "the number of jobs at once is reached", False),
    (r"(QOS|Assoc)Max\w*|MaxMemPerLimit", "your jobs have reached a limit of the account or QOS", False),
    (r"QOSUsageThreshold", "the usage that its QOS allows is reached", False),
    (r"JobArrayTaskLimit", "the number of tasks at once of its array is reached", False),
    (r"BadConstraints", "no node can satisfy its constraints", True),
    (r"InvalidAccount|AccountNotAllowed", "its account is invalid, or not allowed in the partition", True),
    (r"InvalidQOS|QOSNotAllowed", "its QOS is invalid, or not allowed in the partition", True),
    (
        r"ReqNodeNotAvail.*|NodeDown|FrontEndDown|Nodes required.*",
        "nodes that it could use are down, drained or reserved",
        False,
    ),
    (
        r"PartitionNodeLimit|Partition(Down|Inactive)",
        "the partition, or the nodes of it that it could use, are down",
        False,
    ),
    (r"JobHeldUser|JobHeldAdmin", "somebody holds it: scontrol release lets it go", False),
    (r"JobLaunchFailure|JobHoldMaxRequeue|launch.*", "it could not be launched", True),
    (r"BeginTime|Cleaning", "it may not begin yet", False),
    (r"Licenses?", "it waits for a licence", False),
    (r"Reservation", "its reservation has not begun", False),
    (r"DependencyNeverSatisfied", "a job that it depends on has failed", True),
    (r"Dependency", "it depends on a job that has not ended", False),
)


@dataclass(frozen=True, slots=True)
class PendingReason:
    """The cause for which a job waits: Slurm's own word, and the same for people."""

    word: str
    text: str
    is_fatal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """The state of one job; `exit_code` and `signal` are those of its script."""

    state: str
    reason: str
    node: str | None = None
    exit_code: int | None = None
    signal: int | None = None

    @property
    def is_over(self) -> bool:
        """True if it has ended, or will run again from its beginning, which rivers does not want."""
        return self.state in _ENDED or self.state in _REQUEUED


def explain(reason: str) -> PendingReason:
    """Explain the reason for which a job is pending."""
    # "ReqNodeNotAvail, UnavailableNodes:node7": the nodes are of interest.
    for pattern, text, is_fatal in _REASONS:
        if re.fullmatch(pattern, reason):
            return PendingReason(reason.partition(",")[0], f"{text} ({reason})", is_fatal)
    return PendingReason(reason, f"Slurm's reason is {reason}", is_fatal=False)


def parse_squeue(text: str) -> dict[str, JobRecord]:
    """Return the jobs in the answer of squeue by their ids; a task of an array has the id `4711_3`."""
    fields = [line.split("|", 2) for line in text.splitlines()]
    return {line[0]: JobRecord(state=line[1], reason=line[2]) for line in fields if len(line) == 3}


def parse_scontrol(text: str) -> JobRecord | None:
    """Return the job in the answer of `scontrol --oneliner show job`, or None if there is none."""
    found = dict(re.findall(r"(?:^|\s)(JobState|Reason|ExitCode|BatchHost)=(\S*)", text))
    if "JobState" not in found:
        return None
    code, _, number = found.get("ExitCode", "").partition(":")
    return JobRecord(
        state=found["JobState"],
        reason=found.get("Reason", "None"),
        node=found.get("BatchHost") or None,
        exit_code=int(code) if code.isdecimal() and int(code) else None,
        signal=int(number) if number.isdecimal() and int(number) else None,
    )


def evidence_of(job: str, record: JobRecord | None, output: JobOutput, *, is_warm: bool) -> Evidence:
    """Return the evidence of a job's end; without a `record`, Slurm does not know the job any more."""
    code = output.code if output.code is not None else record.exit_code if record else None
    number = record.signal if record else None
    # A shell's code for a worker that a signal has ended.
    if code is not None and code > 128 and code != 143:
        number = code - 128
    if record is not None and record.is_over:
        word = record.state if record.reason == "None" else f"{record.state}, {record.reason}"
        seen = f"{_ENDED.get(record.state, 'it would run again')} ({word})"
    else:
        # Slurm forgets a job after MinJobAge, which is 300 s by default.
        seen = "its script ended" if output.code is not None else "Slurm does not know the job any more"
    is_out_of_memory = output.is_out_of_memory or (record is not None and record.state == "OUT_OF_MEMORY")
    return Evidence(
        exit_code=code if number is None else None,
        signal=number,
        container_reason="OOMKilled" if is_out_of_memory else None,
        # A pilot's time is not that of the step that it happened to serve.
        timed_out=record is not None and record.state == "TIMEOUT" and not is_warm,
        memory_peak=output.peak,
        memory_limit=output.limit,
        node=output.node or (record.node if record else None),
        worker=f"job {job}",
        detail="; ".join(filter(None, (seen, *output.notes, output.tail))),
    )
