"""`python -m flights [--out DIR] [--executor in_process|parallel|kubernetes|both]`: run the job and print its steps.

Exit code 0 when every step succeeded, 1 when one did not, or when the two executors' values are not the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import rivers as rs
from flights.compare import differences, value_names
from flights.repository import flights_repository

EXECUTORS = ("in_process", "parallel", "kubernetes")
PICTURES = ("carrier_picture", "hour_picture", "weather_picture", "destination_picture")
HEAD = ("step", "executor", "state", "load s", "run s", "store s", "worker", "attempts")
NUMBERS = {3, 4, 5, 7}
TOGETHER = 40
"""Characters of the values of a group that are listed rather than counted; names of pods are long."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job, print its steps and where the pictures are, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flights", description="Delays of the flights from New York in 2013."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="directory for pictures and values (default: out)"
    )
    parser.add_argument(
        "--executor",
        choices=[*EXECUTORS, "both"],
        default="in_process",
        help="where the steps run; both: --executor parallel --compare",
    )
    parser.add_argument(
        "--compare", action="store_true", help="run in this process first, and compare every value of the two runs"
    )
    parser.add_argument("--store", help="where values are stored: a bucket's URL, such as s3://bucket/folder")
    parser.add_argument(
        "--select",
        nargs="+",
        metavar="ASSET",
        help="only these assets and what they are made of (default: the whole job)",
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="carry on a run that was killed, by its id or the beginning of it"
    )
    parser.add_argument(
        "--skip-unchanged",
        action="store_true",
        help="keep all values below --out, and run only what has changed since they were stored",
    )
    pods = parser.add_argument_group("kubernetes")
    pods.add_argument("--image", help="the worker image (default: that of the pod this runs in)")
    pods.add_argument("--namespace", help="where pods are made (default: the current namespace)")
    pods.add_argument("--pod-template", type=Path, help="a YAML file, as for the credentials of the store")
    pods.add_argument("--at-once", type=int, help="how many pods at once (default: no cap)")
    options = parser.parse_args(arguments)
    if options.executor == "both":
        options.executor, options.compare = "parallel", True
    if options.executor == "kubernetes" and options.store is None:
        parser.error("--executor kubernetes needs --store: pods share no folder with this process")
    if options.compare:
        return run_and_compare(options)
    executor = executor_of(options)
    skips = options.skip_unchanged
    with flights_repository(options.out, executor, options.store, keeps_all=skips) as repository:
        result = run(repository, executor, options.select, options.out, options.resume, skips=skips)
        return 0 if result.success else 1


def executor_of(options: argparse.Namespace) -> rs.Executor:
    """Return the executor that the command line asks for."""
    if options.executor == "kubernetes":
        return rs.Executor.kubernetes(
            options.image,
            namespace=options.namespace,
            pod_template=options.pod_template,
            max_concurrent_steps=options.at_once,
            worker_cpu="400m",
            worker_memory="512Mi",
        )
    return rs.Executor.parallel() if options.executor == "parallel" else rs.Executor.in_process()


def run(
    repository: rs.CodeRepository,
    executor: rs.Executor,
    select: Sequence[str] | None,
    out: Path,
    resume: str | None = None,
    *,
    skips: bool = False,
) -> rs.RunResult:
    """Run the job or a selection, or carry on a run, with live progress; print its steps, and write its picture."""
    began = time.perf_counter()
    # Progress is for a person who watches; logs of a program get the table below alone.
    watched = sys.stderr.isatty()
    skip = skips or None
    if resume:
        result = repository.resume(resume, executor=executor, raise_on_error=False, record=out, progress=watched)
    elif select:
        result = repository.materialize(
            select,
            include_upstream=True,
            executor=executor,
            raise_on_error=False,
            record=out,
            progress=watched,
            skip_unchanged=skip,
        )
    else:
        result = repository.get_job("flights").execute(
            raise_on_error=False, record=out, progress=watched, skip_unchanged=skip
        )
    seconds = time.perf_counter() - began
    print(step_table(result.steps))
    print(f"\nrun {result.run_id}: {result.status}, {len(result.materialized_assets)} assets, {seconds:.1f} s")
    print(f"its timeline and graph: {result.report(out / 'run.html')}")
    for name, message in result.failed_assets:
        print(f"failed: {name}: {message}")
    pictures = [repository.load_node(name) for name in PICTURES if name in result.materialized_assets]
    print("pictures:" if pictures else "no new pictures")
    for path in pictures:
        print(f"  {path}")
    return result


def run_and_compare(options: argparse.Namespace) -> int:
    """Run the job in this process and on the chosen executor, and compare every value of both runs."""
    names: dict[str, list[str]] = {}
    with ExitStack() as stack:
        repositories = []
        chosen: list[tuple[str, rs.Executor, str | None]] = [
            ("in_process", rs.Executor.in_process(), None),
            (options.executor, executor_of(options), options.store),
        ]
        for name, executor, store in chosen:
            print(f"--- {executor!r}\n")
            out = options.out / name
            repository = stack.enter_context(flights_repository(out, executor, store))
            result = run(repository, executor, options.select, out)
            print()
            if not result.success:
                return 1
            repositories.append(repository)
            names[name] = value_names(result)
        one, other = (set(those) for those in names.values())
        both = [name for name in names["in_process"] if name in other]
        different = [
            *(f"{name}: made by one of the two only" for name in sorted(one ^ other)),
            *differences(both, *repositories),
        ]
    for line in different:
        print(f"different: {line}")
    print(f"{' and '.join(names)}: {len(both)} values compared, {len(different) or 'none'} different")
    return 1 if different else 0


def step_table(steps: dict[str, rs.StepReport]) -> str:
    """Return the steps as text, in order; the instances of a mapped task are one row, with their times added up."""
    groups: dict[str, list[rs.StepReport]] = {}
    for key, step in steps.items():
        groups.setdefault(key.partition("[")[0] + "[*]" if "[" in key else key, []).append(step)
    rows = [HEAD, *(_row(name, group) for name, group in groups.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_cells(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _row(name: str, steps: list[rs.StepReport]) -> tuple[str, ...]:
    times = [f"{sum(getattr(step.timings, phase) for step in steps):.3f}" for phase in ("load", "run", "store")]
    if len(steps) > 1:
        name = f"{name} x {len(steps)}"
    worker = _together(step.worker for step in steps)
    attempts = str(sum(step.attempts for step in steps))
    return (name, _together(s.executor for s in steps), _together(s.state for s in steps), *times, worker, attempts)


def _together(values: Iterable[object]) -> str:
    """Return the different values in order, or their number where they are long."""
    different = list(dict.fromkeys(str(value) for value in values if value))
    text = ", ".join(different) or "-"
    return f"{len(different)} different" if len(different) > 1 and len(text) > TOGETHER else text


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = zip(row, widths, strict=True)
    return [cell.rjust(width) if i in NUMBERS else cell.ljust(width) for i, (cell, width) in enumerate(cells)]


if __name__ == "__main__":
    sys.exit(main())
