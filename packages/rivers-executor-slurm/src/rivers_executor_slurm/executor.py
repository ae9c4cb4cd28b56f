"""The user's choice: a frozen value, which workers can make, too, as they import the same modules."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from datetime import timedelta
from typing import Any

from rivers.exceptions import ConfigurationError
from rivers.spi import (
    Executor,
    Reach,
    check_count,
    check_environment,
    check_flag,
    check_memory,
    check_seconds,
    check_text,
    check_worker_reuse,
)

__all__ = ["SlurmExecutor"]

_TIME = re.compile(r"(?:(?P<days>\d{1,4})-)?(?P<hours>\d{1,4}):(?P<minutes>\d{2})(?::(?P<seconds>\d{2}))?")
_GPUS = re.compile(r"(?:[A-Za-z][\w.]*:)?[1-9]\d{0,3}", re.ASCII)
_WORD = re.compile(r"[!-~]+")
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PATH = re.compile(r"(?!\s*$)[^\x00-\x1f]+")
_LINE = re.compile(r"[^\x00\n]*")
_OURS = "--output, --error, --array, --parsable, --wrap, --requeue, --wait, --export"
_OPTION = re.compile(rf"(?!-[oeaW]|(?:{_OURS.replace(', ', '|')})(?:=|$))[^\x00-\x1f]+")
_MOST_SECONDS = 1e6


@dataclass(frozen=True, repr=False)
class SlurmExecutor(Executor):
    """Run steps as batch jobs of a Slurm cluster whose nodes share a file system with this machine.

    Args:
        partition: The partition; None is the cluster's default, here and below.
        account: The account that is charged.
        qos: The quality of service.
        time: The time limit of a job: seconds, a `timedelta`, or text such as "1:30:00" or "2-00:00". A step's
            `timeout=` raises it where it is too short, and sets it where it is None.
        cpus: CPUs of a step without a `Compute`: --cpus-per-task.
        memory: Memory of such a step: a quantity such as "4Gi", or bytes; None is the cluster's default.
        gpus: GPUs of such a step: a number, or a type and a number such as "a100:2".
        array: Submit workers that start at the same time as one job array.
        container: An image for Apptainer, a path or a URL, in which the workers run.
        python: The interpreter on the nodes, with rivers-worker and the user's modules. None is this one, with the
            folders from which this process imports modules.
        cwd: The jobs' working directory; None is the current one.
        setup: Lines of the batch script before the worker, such as "module load cuda".
        env: Environment variables of the bodies. No secrets: this value's repr and the batch script show them.
        extra: Further options of sbatch, such as ["--constraint=avx512"].
        folder: A folder on the shared file system for the jobs' output; None is `~/.rivers/slurm`.
        max_jobs: The number of jobs at once; None is no limit.
        worker_reuse: "never" runs every attempt in a job of its own. "run" makes pilot jobs: each serves the steps of
            one run in turn, each in a new process.
        idle_ttl: Seconds, or a `timedelta` here and below, after which a pilot job without steps is ended.
        max_steps_per_worker: The number of attempts after which a pilot job is replaced.
        startup_timeout: Seconds until a job's worker must answer, the time in the queue included.
        orphan_ttl: Seconds after which a worker without its controller ends itself.
        grace: Seconds that a cancelled body has to end by itself.
        allow_pickle: Send functions without module scope as cloudpickles.
        inline_values: Let small values of assets without an IO handler travel in specs and results.

    Raises:
        ConfigurationError: an argument is invalid; names it, its value and what is expected.
    """

    kind = "slurm"
    requirement = "rivers-core[slurm]"
    reach = Reach.ANYWHERE
    overridable = ("account", "container", "extra", "partition", "qos", "time")

    partition: str | None = None
    _: KW_ONLY
    account: str | None = None
    qos: str | None = None
    time: float | timedelta | str | None = None
    cpus: int = 1
    memory: str | int | None = None
    gpus: str | int | None = None
    array: bool = False
    container: str | os.PathLike[str] | None = None
    python: str | os.PathLike[str] | None = None
    cwd: str | os.PathLike[str] | None = None
    setup: str | Iterable[str] = ()
    env: Mapping[str, str] | Iterable[tuple[str, str]] = ()
    extra: str | Iterable[str] = ()
    folder: str | os.PathLike[str] | None = None
    max_jobs: int | None = None
    worker_reuse: str = "never"
    idle_ttl: float | timedelta = 60
    max_steps_per_worker: int = 1000
    startup_timeout: float | timedelta = 86_400
    orphan_ttl: float | timedelta = 120
    grace: float | timedelta = 30
    allow_pickle: bool = False
    inline_values: bool = False

    def __post_init__(self) -> None:
        # Each is kept in one form: times in seconds, paths as text, the rest in tuples.
        for field in fields(self):
            value = getattr(self, field.name)
            try:
                object.__setattr__(self, field.name, _check(field.name, value))
            except ConfigurationError:
                raise
            except (TypeError, ValueError) as error:
                text = f"invalid {field.name}={value!r:.80}: expected a value of another type ({error})"
                raise ConfigurationError(text) from None

    @property
    def is_warm(self) -> bool:
        """True if jobs are pilots."""
        return self.worker_reuse == "run"


def _check(name: str, value: Any) -> Any:
    """Return an argument in its plain form."""
    match name:
        case "array" | "allow_pickle" | "inline_values":
            return check_flag(name, value)
        case "cpus" | "max_steps_per_worker" | "max_jobs":
            return check_count(name, value, optional=name == "max_jobs")
        case "idle_ttl" | "startup_timeout" | "orphan_ttl" | "grace":
            return float(check_seconds(name, value, above=0, most=_MOST_SECONDS))
        case "worker_reuse":
            return check_worker_reuse(name, value)
        case "env":
            pairs = check_environment(dict(value), error=ConfigurationError).items()
            return tuple(sorted((check_text(name, key, "names of variables", _VARIABLE), text) for key, text in pairs))
        case "setup":
            lines = value.splitlines() if isinstance(value, str) else value
            return tuple(check_text(name, line, "lines of a shell script", _LINE) for line in lines)
        case "extra":
            words = shlex.split(value) if isinstance(value, str) else value
            return tuple(check_text(name, word, f"options of sbatch, but none of {_OURS}", _OPTION) for word in words)
    if value is None:
        return None
    match name:
        case "time":
            return _seconds(value)
        case "memory":
            return check_memory(name, value)
        case "gpus":
            text = str(value) if type(value) is int else value
            return check_text(name, text, 'a number of GPUs, or a type and a number such as "a100:2", or None', _GPUS)
        case "partition" | "account" | "qos":
            return check_text(name, value, "a name without white space, or None", _WORD)
    return check_text(name, os.fspath(value), "a path, or None", _PATH)


def _seconds(value: Any) -> float:
    """Return a time limit in seconds."""
    if not isinstance(value, str):
        return float(check_seconds("time", value, above=0, most=_MOST_SECONDS))
    match = _TIME.fullmatch(value)
    parts = {unit: int(text or 0) for unit, text in match.groupdict().items()} if match else {}
    # To Slurm "90" is minutes, and to rivers a number is seconds: a text of digits alone would be misread.
    if not any(parts.values()):
        expected = 'a time such as "1:30:00", "0:45" (hours:minutes) or "2-00:00", or seconds'
        raise ConfigurationError(f"invalid time={value!r}: expected {expected}")
    return timedelta(**parts).total_seconds()
