"""Measure records, resumed runs and fingerprints by the CPU time of all threads: `python bench/durable.py`.

Without `--quick` each figure is the best of many rounds, the sides of a ratio taking turns.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from figures import TMPFS, Table, best, micros
from shapes import fan_out

import rivers as rs
from rivers._events.event import Event, StepStarted, StepSubmitted, StepSucceeded
from rivers._record.header import RunHeader
from rivers._record.journal import read_history
from rivers._record.recorder import RunRecorder
from rivers._record.redact import Redactor
from rivers.events import StepUnchanged
from rivers.protocol import OutputRecord

STEPS, MANY, APPENDS = 2_000, 10_000, 20_000
MODULE = """\
import rivers as rs

store = rs.PickleIOHandler("values")
"""
ONE = """\
@rs.Asset(io_handler=store)
def asset_{0}(asset_{1}: int) -> int:
    return asset_{1} + {0}
"""


@contextmanager
def scratch() -> Iterator[Path]:
    """Work in a folder in memory, outside of any git repository, which each record would ask for its commit."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(dir=TMPFS, prefix="rivers-bench-") as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def no_op_steps(table: Table, folder: Path, rounds: int) -> None:
    """Measure what a record, and memos for later runs, add to steps that do nothing."""
    for name, handler in (("in memory", None), ("PickleIOHandler", rs.PickleIOHandler(folder / "pickles"))):
        # The first may be skipped, so that all are compared and have memos; the others run in every run.
        compared = rs.CodeRepository(fan_out(STEPS, handler, skip_unchanged=False))
        compared.resolve()
        plain, listened, recorded, memos, both = best(
            compared.materialize,
            partial(compared.materialize, on_event=lambda event: None),
            partial(compared.materialize, record=folder / "home"),
            partial(compared.materialize, skip_unchanged=True),
            partial(compared.materialize, record=folder / "home", skip_unchanged=True),
            rounds=rounds,
            clock=time.process_time,
        )
        table.line(f"no-op step in process, {name}", f"{micros(plain, STEPS):.1f} us/step", 1.0)
        for what, seconds in (("a listener for events", listened), ("a record", recorded), ("memos", memos)):
            table.line(f"  with {what}", f"{micros(seconds - plain, STEPS):+.1f} us/step", seconds / plain)
        ratio = both / plain
        table.line(
            "  with a record and memos",
            f"{micros(both - plain, STEPS):+.1f} us/step",
            ratio,
            "<= 1.15 x",
            ratio <= 1.15,
        )


def append(table: Table, folder: Path, rounds: int) -> None:
    """Measure the lines of a step as the recorder writes them, and their replay."""
    run_id = "0123456789abcdef" * 2
    events: list[Event] = []
    for number in range(APPENDS // 3):
        step, attempt_id = f"asset_{number}", f"{run_id}-{number}-0.0"
        known = {"run_id": run_id, "time": 1.7e9 + number, "step": step, "attempt": 1, "attempt_id": attempt_id}
        output = OutputRecord(name=step, key=step)
        events += [
            StepSubmitted(**known),
            StepStarted(**known, executor="in_process", worker="pid 1234"),
            StepSucceeded(**known, outputs=(output,), worker="pid 1234"),
        ]
    redactor = Redactor(["a secret of some length"])
    record = folder / "appended"

    def write() -> None:
        shutil.rmtree(record, ignore_errors=True)
        recorder = RunRecorder(record, RunHeader(format=1, run_id=run_id, started=1.0), redactor)
        for event in events:
            recorder(event)
        recorder.close()

    written, read = best(write, lambda: read_history(record), rounds=rounds, clock=time.process_time)
    for what, seconds, bar in (("append a line to a record", written, 5), ("replay a line", read, 2)):
        us = micros(seconds, len(events))
        table.line(what, f"{us:.2f} us", None, f"<= {bar} us", us <= bar)


def unchanged(table: Table, folder: Path, rounds: int) -> None:
    """Measure a run of many steps in which nothing has changed."""
    for name, handler in (("in memory", None), ("PickleIOHandler", rs.PickleIOHandler(folder / "many"))):
        repository = rs.CodeRepository(fan_out(MANY, handler))
        repository.resolve()
        repository.materialize(skip_unchanged=True)
        skipped: list[object] = []
        repository.materialize(skip_unchanged=True, on_event=skipped.append)
        assert sum(isinstance(event, StepUnchanged) for event in skipped) == MANY + 1
        alone, recorded = best(
            partial(repository.materialize, skip_unchanged=True),
            partial(repository.materialize, skip_unchanged=True, record=folder / "home"),
            rounds=rounds,
            clock=time.process_time,
        )
        table.line(f"{MANY:,} unchanged steps, {name}", f"{alone:.2f} s", None, "<= 1 s", alone <= 1)
        table.line("  with a record", f"{recorded:.2f} s", recorded / alone, "<= 1 s", recorded <= 1)


def fresh_process(table: Table, folder: Path, rounds: int) -> None:
    """Measure the same of many functions in a process of its own, which parses their source anew."""
    source = folder / "many_assets.py"
    chain = "".join(ONE.format(number, number - 1) for number in range(1, MANY))
    first = "@rs.Asset(io_handler=store)\ndef asset_0() -> int:\n    return 1\n"
    source.write_text(f"{MODULE}{first}{chain}repo = rs.CodeRepository([value for name, value in globals().items() "
                      'if name.startswith("asset_")])\n')  # fmt: skip
    code = (
        "import sys, time; sys.path.insert(0, '.'); from many_assets import repo; repo.resolve(); "
        "start = time.process_time(); result = repo.materialize(skip_unchanged=True, record=False); "
        "print(time.process_time() - start, sum(r.state == 'unchanged' for r in result.steps.values()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    seconds = 1e9
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        took, count = done.stdout.split()
        assert int(count) == MANY
        seconds = min(seconds, float(took))
    table.line(f"{MANY:,} unchanged functions in a fresh process", f"{seconds:.2f} s", None, "<= 1 s", seconds <= 1)


def durable(table: Table, rounds: int = 9) -> None:
    """Measure everything."""
    with scratch() as folder:
        no_op_steps(table, folder, rounds)
        append(table, folder, rounds)
        unchanged(table, folder, max(2, rounds // 2))
        fresh_process(table, folder, max(2, rounds // 4))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="few rounds")
    durable(Table(), 3 if arguments.parse_args().quick else 9)
