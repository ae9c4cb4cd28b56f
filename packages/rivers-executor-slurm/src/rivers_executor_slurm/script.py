"""Turn executor and step into the arguments of sbatch and a batch script; pure."""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rivers.protocol import Compute, StepSpec
from rivers.spi import parse_quantity
from rivers_executor_slurm.executor import SlurmExecutor

__all__ = ["INHERITED", "JobOptions", "batch_script", "job_options", "sbatch_arguments"]

BOOT = 60.0
"""Seconds of a job's time for the start of its worker and the last events."""
PILOT = 3600.0
"""Seconds that a pilot without `time` gets beyond its steps' timeout."""
LAST_PART = 0.1
"""Share of a pilot's time in which it takes no step, if its steps have no timeout."""
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SLURM_CONF")
"""Variables of this process that sbatch passes on to jobs; all others may be secrets."""

# One process for both: an interpreter takes 50 ms to start. The address from which this node reaches the submit host is
# one that the submit host reaches.
_BOOT = """
import os, socket, sys
try:
    found = socket.getaddrinfo(os.environ["SLURM_SUBMIT_HOST"], 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(*found[:2]) as probe:
        probe.connect(found[4])
        address = probe.getsockname()[0]
except OSError:
    address = socket.gethostbyname(socket.gethostname())
os.environ["RIVERS_LISTEN"] = f"[{address}]:0" if ":" in address else f"{address}:0"
job = os.environ["RIVERS_WORKER"].partition(" ")[2]
print("rivers-job", job, os.environ["SLURMD_NODENAME"], os.environ["RIVERS_LISTEN"], flush=True)
sys.argv = ["rivers-worker", "serve"]
from rivers_worker.__main__ import run
run()
"""
_SCRIPT = """
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
export RIVERS_WORKER="job ${job:-$SLURM_JOB_ID}"
PYTHON -c BOOT
code=$?
echo "rivers-end $code"
[ $code -eq 13 ] && rm -f "$output" && rmdir "$(dirname "$output")" 2>/dev/null
exit $code
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """The options that jobs of one shape have in common; after `max_age` seconds a pilot takes no step."""

    arguments: tuple[str, ...]
    max_age: float | None
    container: str | None


def job_options(executor: SlurmExecutor, spec: StepSpec) -> JobOptions:
    """Return the options of a job for a step: the executor's, its metadata's and its compute's."""
    own = executor.for_step(spec.metadata)
    compute = spec.compute or Compute()
    memory = compute.memory or own.memory
    # Slurm counts whole CPUs, mebibytes and minutes.
    minutes, max_age = _time_limit(own, spec.timeout)
    given = {
        "partition": own.partition,
        "account": own.account,
        "qos": own.qos,
        "time": minutes,
        "cpus-per-task": math.ceil(parse_quantity(compute.cpu)) if compute.cpu else own.cpus,
        "mem": f"{math.ceil(parse_quantity(str(memory)) / 2**20)}M" if memory else None,
        "gpus": compute.gpu or own.gpus,
    }
    arguments = tuple(f"--{name}={value}" for name, value in given.items() if value is not None)
    container = cast(str | None, own.container)
    return JobOptions(arguments=(*arguments, *own.extra), max_age=max_age, container=container)


def _time_limit(executor: SlurmExecutor, timeout: float | None) -> tuple[int | None, float | None]:
    """Return the time limit in minutes, never below the timeout, and the age after which a pilot takes no step."""
    needed = timeout + cast(float, executor.grace) + BOOT if timeout is not None else 0.0
    limit = cast(float | None, executor.time)
    if limit is None:
        if not needed:
            return None, None
        limit = needed + (PILOT if executor.is_warm else 0.0)
    seconds = math.ceil(max(limit, needed) / 60) * 60
    if not executor.is_warm:
        return seconds // 60, None
    return seconds // 60, max(1.0, seconds - (needed or LAST_PART * seconds))


def sbatch_arguments(
    executor: SlurmExecutor, options: JobOptions, step: str, outputs: Sequence[Path], token: str
) -> tuple[str, list[str]]:
    """Return a name for people, with the `token` that makes it unique, and the arguments of sbatch.

    The script comes by stdin. The output files exist already, as a client of NFS may remember that one does not.
    """
    # "%" begins a pattern of Slurm's, such as the number of a task.
    name = f"rivers-{re.sub(r'[^A-Za-z0-9_.]+', '-', step)[:40]}-{token}"
    folder = str(outputs[0].parent).replace("%", "%%")
    output = f"{folder}/{token}-{'%a' if len(outputs) > 1 else 0}.out"
    ours = [f"--job-name={name}", f"--chdir={os.path.abspath(executor.cwd or '.')}", f"--output={output}"]
    # A requeued script would begin anew, and run a body for a second time.
    ours += ["--open-mode=append", "--parsable", "--no-requeue", "--export=ALL", "--ntasks=1", "--nodes=1"]
    ours += [f"--array=0-{len(outputs) - 1}"] if len(outputs) > 1 else []
    return name, [*options.arguments, *ours]


def batch_script(
    executor: SlurmExecutor, options: JobOptions, outputs: Sequence[Path], environments: Sequence[Mapping[str, str]]
) -> str:
    """Return the script of a job, or of all tasks of an array: each has its output file and its environment.

    It writes `rivers-job ID NODE ADDRESS` before the worker's announcement and `rivers-end CODE` after its end. The
    output of a worker that has lost its controller (code 13) is read by nobody, and removed.
    """
    first = environments[0]
    shared = {name: value for name, value in first.items() if all(other.get(name) == value for other in environments)}
    lines = ["#!/bin/sh", 'case "${SLURM_ARRAY_TASK_ID:-0}" in']
    for number, (output, environment) in enumerate(zip(outputs, environments, strict=True)):
        own = {name: value for name, value in environment.items() if name not in shared}
        lines.append(f"{number}) {_exports({'output': str(output), **own})};;")
    # Variables of rivers come last, and cannot be overridden.
    common = {**_module_path(executor), **dict(executor.env), **shared}
    if options.max_age is not None:
        common["RIVERS_MAX_AGE"] = f"{options.max_age:g}"
    python = shlex.quote(os.fspath(executor.python or ("python3" if options.container else sys.executable)))
    if options.container is not None:
        python = f"apptainer exec {shlex.quote(options.container)} {python}"
    script = _SCRIPT.replace("PYTHON -c BOOT", f"{python} -c {shlex.quote(_BOOT)}")
    return "\n".join([*lines, "esac", _exports(common), *executor.setup, script])


def _module_path(executor: SlurmExecutor) -> dict[str, str]:
    """Return the PYTHONPATH by which this interpreter finds the modules of this process on a node."""
    if executor.python is not None or executor.container is not None:
        return {}
    # Those of the interpreter itself are found without it.
    own = (sys.prefix, sys.base_prefix)
    paths = dict.fromkeys(path for path in map(os.path.abspath, sys.path) if not path.startswith(own))
    return {"PYTHONPATH": os.pathsep.join(paths)}


def _exports(variables: Mapping[str, str]) -> str:
    return f"export {' '.join(f'{name}={shlex.quote(value)}' for name, value in variables.items())}"
