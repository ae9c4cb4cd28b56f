"""Runs of any size, made of events alone: failures, retries, skips, mapped steps, workers and pods.

Also a program: `python synthetic.py 300 run.html` writes the picture of one.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
from collections.abc import Iterator

from rivers._events.event import (
    Event,
    RunFinished,
    RunStarted,
    RunWarning,
    StepFailed,
    StepLog,
    StepRetrying,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from rivers._record.header import FORMAT, ExecutorHeader, GitCommit, RunHeader, StepHeader
from rivers._record.view import RunView
from rivers.protocol.failure import Evidence, Failure, FailureReason
from rivers.protocol.result import OutputRecord, Timings

RUN = "5ca1ab1e0ddba11c0ffee0deadbeef00"
START = 1_790_000_000.0
GROUPS = ("ingest", "clean", "features", "models", "reports", "checks", "exports")
TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/assets/{module}.py", line 41, in {name}
    frame = tidy(orders, currency="EUR")
  File "/srv/shop/assets/cleaning.py", line 17, in tidy
    return orders.astype({{"price": float}})
  File "/opt/venv/lib/python3.11/site-packages/pandas/core/generic.py", line 6643, in astype
    new_data = self._mgr.astype(dtype=dtype, copy=copy, errors=errors)
  File "/opt/venv/lib/python3.11/site-packages/pandas/core/internals/managers.py", line 430, in astype
    return self.apply(
           ^^^^^^^^^^^
ValueError: could not convert string to float: 'n/a'
"""


def header_of(count: int, mapped: int, chance: random.Random) -> RunHeader:
    """Describe a run of `count` planned steps, and a mapped one with its neighbours if `mapped` is not 0."""
    steps: list[StepHeader] = []
    width = max(2, round(count**0.6))
    for index in range(count):
        level = index // width
        before = range(max(0, (level - 1) * width), level * width)
        deps = tuple(sorted(chance.sample(before, min(len(before), 1 if index % 3 else 2)))) if before else ()
        group = GROUPS[index * len(GROUPS) // count]
        steps.append(
            StepHeader(
                key=f"{group}_{index:0{len(str(count))}d}",
                executor=2 if index % 11 == 3 else 1 if level % 4 else 0,
                level=level,
                deps=deps,
                group=group,
                kinds=("python",) if index % 3 else ("sql", "duckdb"),
                tags=("daily",) if index % 2 else (),
                description=f"The {group} table number {index}." if index % 5 == 0 else None,
                location=f"shop/assets/{group}.py:{10 + index}",
                max_attempts=3,
            )
        )
    if mapped:
        over = len(steps)
        level = 1
        steps.append(StepHeader(key="parts/split", executor=1, level=level, deps=(0,), kind="task"))
        steps.append(
            StepHeader(key="parts/work", executor=1, level=level + 1, deps=(over,), mapped_over=over, kind="task")
        )
        steps.append(StepHeader(key="parts/merge", executor=1, level=level + 2, deps=(over + 1,), kind="task"))
    return RunHeader(
        format=FORMAT,
        run_id=RUN,
        started=START,
        repository="shop.pipeline:repo",
        job="nightly",
        tags={"trigger": "schedule"},
        executors=(
            ExecutorHeader(kind="in_process", text="Executor.in_process()", slots=1),
            ExecutorHeader(kind="parallel", text="Executor.parallel(max_workers=8)", slots=8),
            ExecutorHeader(kind="kubernetes", text="Executor.kubernetes('registry/shop:7')", slots=None),
        ),
        steps=tuple(steps),
        versions={"python": "3.11.9", "rivers-core": "0.1.0", "rivers-executor-parallel": "0.1.0"},
        host="build-7",
        pid=4242,
        folder="/srv/shop",
        git=GitCommit(commit="0123456789abcdef0123456789abcdef01234567", branch="main", is_dirty=True),
        command=("rivers", "run", "shop.pipeline", "--job", "nightly"),
    )


class Simulation:
    """A simple scheduler over the planned steps that writes the events of their run."""

    def __init__(self, header: RunHeader, mapped: int, failing: float, chance: random.Random) -> None:
        self.header, self.mapped, self.failing, self.chance = header, mapped, failing, chance
        self.events: list[Event] = []
        self.free = {0: [(START, 0)], 1: [(START, n) for n in range(8)], 2: [(START, n) for n in range(24)]}
        self.ends: dict[str, float] = {}
        self.bad: dict[str, str] = {}
        self.pods = 0

    def run(self) -> list[Event]:
        """Return all events in the order of their times."""
        self.events.append(RunStarted(run_id=RUN, time=START, job="nightly", steps=len(self.header.steps)))
        for step in self.header.steps:
            keys = [step.key] if step.mapped_over is None else [f"{step.key}[{n}]" for n in range(self.mapped)]
            culprit = next((self.bad[self.key(dep)] for dep in step.deps if self.key(dep) in self.bad), None)
            ready = max([START, *(self.ends[self.key(dep)] for dep in step.deps)])
            if culprit is not None:
                self.bad[step.key] = culprit
                self.ends[step.key] = ready
                self.events.append(StepSkipped(run_id=RUN, time=ready, step=step.key, cause=culprit))
                continue
            for key in keys:
                self.attempts(step, key, ready)
            self.ends[step.key] = max([ready, *(self.ends[key] for key in keys)])
        end = max([START + 0.01, *self.ends.values()])
        self.events.append(RunWarning(run_id=RUN, time=START, message="compute= is not honoured by parallel"))
        self.events.sort(key=lambda event: event.time)
        status = "failure" if self.bad else "success"
        self.events.append(RunFinished(run_id=RUN, time=end, status=status))
        return self.events

    def key(self, index: int) -> str:
        return self.header.steps[index].key

    def attempts(self, step: StepHeader, key: str, ready: float) -> None:
        chance = self.chance
        for number in (1, 2, 3):
            at, slot = heapq.heappop(self.free[step.executor])
            begin = max(at, ready)
            is_pod = step.executor == 2
            boot = chance.uniform(2, 6) if is_pod else 0.3 if at == START and step.executor else 0.0
            load, work, store = chance.uniform(0.01, 0.2), chance.lognormvariate(-0.3, 0.9), chance.uniform(0.01, 0.3)
            started = begin + boot + 0.002
            end = started + load + work + store + 0.003
            heapq.heappush(self.free[step.executor], (end, slot))
            executor = self.header.executors[step.executor].kind
            self.pods += step.executor == 2
            worker = (
                f"rivers-5ca1ab1e-{self.pods}" if step.executor == 2 else f"pid {5000 + 100 * step.executor + slot}"
            )
            self.events.append(
                StepStarted(
                    run_id=RUN,
                    time=started,
                    step=key,
                    attempt=number,
                    attempt_id=f"{key}-{number}",
                    executor=executor,
                    worker=worker,
                )
            )
            schedule, pull = (0.1 * boot, 0.6 * boot) if is_pod else (0.0, 0.0)
            timings = Timings(
                queued=begin - ready, boot=boot, schedule=schedule, pull=pull, load=load, run=work, store=store
            )
            self.logs(step, key, number, started, work)
            fate = chance.random()
            common = {"run_id": RUN, "time": end, "step": key, "attempt": number, "worker": worker}
            if fate > self.failing:
                outputs = (
                    OutputRecord(name="result", key=key, metadata=self.metadata(step), map_keys=self.map_keys(key)),
                )
                self.events.append(StepSucceeded(**common, timings=timings, outputs=outputs))
                self.ends[key] = end
                return
            failure = self.failure(step, key, fate / self.failing if self.failing else 1.0)
            if number < 3 and fate > self.failing * 0.3:
                self.events.append(StepRetrying(**common, failure=failure, delay=1.0 * number, timings=timings))
                ready = end + 1.0 * number
                continue
            self.events.append(StepFailed(**common, failure=failure, timings=timings))
            self.ends[key] = end
            self.bad[key] = self.bad[step.key] = key
            return

    def logs(self, step: StepHeader, key: str, number: int, started: float, work: float) -> None:
        lines = [("read the table", 20, "log"), (f"rows: {len(key)}000", 0, "stdout"), ("slow join", 30, "log")]
        for place, (message, level, stream) in enumerate(lines):
            self.events.append(
                StepLog(
                    run_id=RUN,
                    time=started + work * place / 3,
                    step=key,
                    attempt=number,
                    message=message,
                    level=level,
                    stream=stream,
                    logger="shop" if stream == "log" else "",
                )
            )

    def metadata(self, step: StepHeader) -> str:
        return json.dumps({"rows": self.chance.randint(10, 10**6), "table": f"warehouse.{step.key}"})

    def map_keys(self, key: str) -> tuple[str, ...] | None:
        return tuple(map(str, range(self.mapped))) if key == "parts/split" else None

    def failure(self, step: StepHeader, key: str, share: float) -> Failure:
        if step.executor == 2 and share < 0.6:
            evidence = Evidence(
                container_reason="OOMKilled", exit_code=137, node="node-3", memory_limit=2**29, memory_peak=2**29
            )
            return Failure(
                reason=FailureReason.OUT_OF_MEMORY, type="", message="container reason OOMKilled", evidence=evidence
            )
        name = key.partition("[")[0]
        return Failure(
            reason=FailureReason.ERROR,
            type="ValueError",
            message="could not convert string to float: 'n/a'",
            traceback=TRACEBACK.format(module=step.group or "parts", name=name.replace("/", "_")),
            notes=("→ look at the column price",),
        )


def make_events(steps: int, *, mapped: int = 0, failing: float = 0.0, seed: int = 1) -> tuple[RunHeader, list[Event]]:
    """Return the header and the events of a run of `steps` planned steps and `mapped` instances."""
    chance = random.Random(seed)
    header = header_of(steps, mapped, chance)
    return header, Simulation(header, mapped, failing, chance).run()


def make_view(steps: int, *, mapped: int = 0, failing: float = 0.0, seed: int = 1, until: float = 1.0) -> RunView:
    """Return the view of such a run, after the first `until` of its events."""
    header, events = make_events(steps, mapped=mapped, failing=failing, seed=seed)
    view = RunView(header)
    for event in first(events, until):
        view.apply(event)
    return view


def first(events: list[Event], share: float) -> Iterator[Event]:
    yield from events[: round(len(events) * share)]


if __name__ == "__main__":
    from rivers._report.write import write_report

    size = int(sys.argv[1])
    shown = make_view(size - size // 5, mapped=size // 5, failing=0.02 if size > 10 else 0.0)
    print(write_report(shown, sys.argv[2]))
