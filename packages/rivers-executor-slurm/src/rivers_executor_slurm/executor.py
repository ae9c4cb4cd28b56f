"""The user's choice: a frozen value, which workers can make, too, as they import the same modules."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any

from rivers.exceptions import ConfigurationError
from rivers.spi import Executor, Reach, parse_quantity

__all__ = ["SlurmExecutor"]

_TIME = re.compile(r"(?:(?P<days>\d{1,4})-)?(?P<hours>\d{1,4}):(?P<minutes>\d{2})(?::(?P<seconds>\d{2}))?")
_GPUS = re.compile(r"(?:[A-Za-z][\w.]*:)?[1-9]\d{0,3}", re.ASCII)
_WORD = re.compile(r"[!-~]+")
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_REUSE = ("never", "run")
_MOST_SECONDS = 1e6
# sbatch's own; the executor needs them
_OURS = (
    "--output",
    "-o",
    "--error",
    "-e",
    "--array",
    "-a",
    "--parsable",
    "--wrap",
    "--requeue",
    "--wait",
    "-W",
    "--export",
)


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
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))

    @property
    def is_warm(self) -> bool:
        """True if jobs are pilots."""
        return self.worker_reuse == "run"


def _invalid(name: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"invalid {name}={value!r:.80}: expected {expected}")


def _word(name: str, value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and _WORD.fullmatch(value)):
        raise _invalid(name, value, "a name without white space, or None")
    return value


def _path(name: str, value: Any) -> Any:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if path is not None and not (isinstance(path, str) and path.strip() and path.isprintable()):
        raise _invalid(name, value, "a path, or None")
    return path


def _count(name: str, value: Any) -> Any:
    if not (type(value) is int and value >= 1) and not (value is None and name == "max_jobs"):
        raise _invalid(name, value, f"a whole number of at least 1{', or None' if name == 'max_jobs' else ''}")
    return value


def _seconds(name: str, value: Any) -> float:
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if type(number) not in (int, float) or not 0 < number <= _MOST_SECONDS:
        raise _invalid(name, value, f"seconds above 0 and up to {_MOST_SECONDS:,.0f}, or a timedelta")
    return float(number)


def _time(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        match = _TIME.fullmatch(value)
        parts = {unit: int(text or 0) for unit, text in match.groupdict().items()} if match else {}
        # To Slurm "90" is minutes, and to rivers a number is seconds: a text of digits alone would be misread.
        if not any(parts.values()):
            raise _invalid(name, value, 'a time such as "1:30:00", "0:45" (hours:minutes) or "2-00:00", or seconds')
        return timedelta(**parts).total_seconds()
    return _seconds(name, value)


def _memory(name: str, value: Any) -> str | None:
    try:
        fits = value is None or (type(value) in (str, int) and parse_quantity(str(value)) >= 2**20)
    except ValueError:
        fits = False
    if not fits:
        raise _invalid(name, value, 'a quantity of at least 1Mi such as "512Mi" or "4G", or bytes, or None')
    return None if value is None else str(value)


def _gpus(name: str, value: Any) -> str | None:
    text = str(value) if type(value) is int else value
    if text is not None and not (isinstance(text, str) and _GPUS.fullmatch(text)):
        raise _invalid(name, value, 'a number of GPUs, or a type and a number such as "a100:2", or None')
    return text


def _flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise _invalid(name, value, "True or False")
    return value


def _lines(name: str, value: Any) -> tuple[str, ...]:
    lines = tuple(value.splitlines() if isinstance(value, str) else value)
    if not all(isinstance(line, str) and "\x00" not in line for line in lines):
        raise _invalid(name, value, "lines of a shell script")
    return lines


def _extra(name: str, value: Any) -> tuple[str, ...]:
    words = tuple(shlex.split(value) if isinstance(value, str) else value)
    for word in words:
        if not (isinstance(word, str) and word.isprintable() and word) or word.partition("=")[0] in _OURS:
            raise _invalid(name, value, f'options of sbatch, such as ["--constraint=avx512"], but none of {_OURS}')
    return words


def _env(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(pair) for pair in (value.items() if isinstance(value, Mapping) else value)]
    for pair in pairs:
        fits = len(pair) == 2 and all(isinstance(text, str) and "\x00" not in text for text in pair)
        if not fits or not _VARIABLE.fullmatch(pair[0]):
            raise _invalid(name, value, 'a dict of variables, such as {"TZ": "UTC"}')
    return tuple(sorted(pairs))


def _reuse(name: str, value: Any) -> str:
    if value not in _REUSE:
        raise _invalid(name, value, " or ".join(map(repr, _REUSE)))
    return str(value)


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("partition", "account", "qos"), _word),
    **dict.fromkeys(("container", "python", "cwd", "folder"), _path),
    **dict.fromkeys(("idle_ttl", "startup_timeout", "orphan_ttl", "grace"), _seconds),
    **dict.fromkeys(("cpus", "max_jobs", "max_steps_per_worker"), _count),
    **dict.fromkeys(("array", "allow_pickle", "inline_values"), _flag),
    "time": _time,
    "memory": _memory,
    "gpus": _gpus,
    "worker_reuse": _reuse,
    "setup": _lines,
    "env": _env,
    "extra": _extra,
}
