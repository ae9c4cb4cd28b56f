"""Phases, lanes, the critical path and hints: the pure part of the picture of a run."""

from __future__ import annotations

import pytest

from rivers._events.event import RunStarted, StepFailed, StepRetrying, StepStarted, StepSucceeded
from rivers._record.header import FORMAT, RunHeader, StepHeader
from rivers._record.view import RunView
from rivers._report.critical_path import critical_path, shortest_ends, times_of
from rivers._report.dependencies import dependencies, ready_time
from rivers._report.hints import RunFacts, format_seconds, hints_of
from rivers._report.lanes import LaneItem, assign_lanes
from rivers._report.phases import AttemptPhases, phases_of
from rivers._report.tracebacks import fold_traceback, user_frame
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import Timings

FAILURE = Failure(reason=FailureReason.ERROR, type="ValueError", message="no")


def view_of(*steps: StepHeader) -> RunView:
    view = RunView(RunHeader(format=FORMAT, run_id="r", started=100.0, steps=steps))
    view.apply(RunStarted(run_id="r", time=100.0))
    return view


def started(step: str, time: float, attempt: int = 1) -> StepStarted:
    return StepStarted(
        run_id="r", time=time, step=step, attempt=attempt, attempt_id=f"{step}-{attempt}", executor="x", worker="w"
    )


# ---- phases ---------------------------------------------------------------------------------------------------------


def test_phases_follow_one_another() -> None:
    """Queue and boot stand before the start of an attempt, its body's phases behind it, and the rest at its end."""
    view = view_of(StepHeader(key="a", executor=0, level=0))
    view.apply(started("a", 103.0))
    timings = Timings(queued=1.0, boot=0.5, load=0.25, run=1.0, store=0.5, schedule=0.125, pull=0.25)
    view.apply(StepSucceeded(run_id="r", time=105.0, step="a", attempt=1, timings=timings))

    (phases,) = phases_of(view.steps["a"], 100.0, 200.0)

    assert AttemptPhases(101.5, 1.0, 0.125, 0.25, 0.125, 0.25, 1.0, 0.5, 0.25) == phases
    assert (105.0, 102.5, 2.5) == (phases.end, phases.active, phases.busy)


def test_an_attempt_that_runs_lasts_until_now() -> None:
    """An attempt without an end, and so without timings, has been in its body since its start."""
    view = view_of(StepHeader(key="a", executor=0, level=0))
    view.apply(started("a", 101.0))

    (phases,) = phases_of(view.steps["a"], 100.0, 104.0)

    assert AttemptPhases(101.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0) == phases


def test_phases_of_two_clocks_stay_within_the_attempt() -> None:
    """A worker whose clock or timings disagree with the controller's gives no phase below 0 and none past the end."""
    view = view_of(StepHeader(key="a", executor=0, level=0))
    view.apply(started("a", 99.0))
    timings = Timings(queued=5.0, boot=5.0, load=1.0, run=9.0, store=1.0)
    view.apply(StepSucceeded(run_id="r", time=103.0, step="a", attempt=1, timings=timings))

    (phases,) = phases_of(view.steps["a"], 100.0, 200.0)

    assert AttemptPhases(100.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0) == phases


def test_attempts_do_not_overlap() -> None:
    """The queue of a second attempt begins after the end of the first; an attempt that never started is all boot."""
    view = view_of(StepHeader(key="a", executor=0, level=0))
    view.apply(started("a", 101.0))
    view.apply(StepRetrying(run_id="r", time=102.0, step="a", attempt=1, failure=FAILURE, delay=1.0))
    view.apply(
        StepFailed(run_id="r", time=105.0, step="a", attempt=2, failure=FAILURE, timings=Timings(boot=9.0, queued=9.0))
    )

    first, second = phases_of(view.steps["a"], 100.0, 200.0)

    assert 102.0 == first.end == second.begin
    assert AttemptPhases(102.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0) == second
    times = times_of([first, second])
    assert times is not None
    assert (101.0, 105.0, 1.0) == (times.begin, times.end, times.retried)


def test_an_attempt_is_queued_from_the_end_of_its_delay() -> None:
    """What passes between the end of the retry's delay and the next attempt is time in the queue, not of the delay."""
    view = view_of(StepHeader(key="a", executor=0, level=0))
    view.apply(started("a", 101.0))
    view.apply(StepRetrying(run_id="r", time=102.0, step="a", attempt=1, failure=FAILURE, delay=1.0))
    view.apply(started("a", 106.0, 2))
    view.apply(StepSucceeded(run_id="r", time=107.0, step="a", attempt=2, timings=Timings(run=1.0)))

    first, second = phases_of(view.steps["a"], 100.0, 200.0)
    times = times_of([first, second])

    assert (103.0, 3.0, 107.0) == (second.begin, second.queued, second.end)
    assert times is not None
    assert (3.0, 2.0, 1.0) == (times.queued, times.retried, times.work)


def test_a_step_is_queued_from_the_end_of_what_it_waits_for() -> None:
    """The time from the last end of its dependencies to its start is time in the queue, whoever kept it there."""
    view = view_of(
        StepHeader(key="a", executor=0, level=0),
        StepHeader(key="b", executor=0, level=0),
        StepHeader(key="c", executor=0, level=1, deps=(0, 1)),
    )
    for key, end in (("a", 102.0), ("b", 103.0)):
        view.apply(started(key, 101.0))
        assert ready_time(view, view.steps["c"]) is None
        view.apply(StepSucceeded(run_id="r", time=end, step=key, attempt=1))
    view.apply(started("c", 107.0))

    ready = ready_time(view, view.steps["c"])
    (phases,) = phases_of(view.steps["c"], 100.0, 109.0, ready)

    assert 103.0 == ready == phases.begin
    assert (4.0, 2.0) == (phases.queued, phases.run)


# ---- the critical path ----------------------------------------------------------------------------------------------


def attempt(begin: float, run: float, queued: float = 0.0) -> list[AttemptPhases]:
    return [AttemptPhases(begin, queued, 0.0, 0.0, 0.0, 0.0, run, 0.0, 0.0)]


def test_the_critical_path_goes_back_from_the_last_end() -> None:
    """The path is the chain of the latest ends; a step without an attempt is not on it."""
    times = [times_of(attempt(0, 2)), times_of(attempt(0, 5)), times_of(attempt(6, 1)), None, times_of(attempt(0, 3))]

    path = critical_path(times, [(), (), (0, 1, 3), (), ()])

    assert [1, 2] == path


def test_the_critical_path_of_nothing_is_empty() -> None:
    """A run without attempts has no path, and a record that names a cycle ends."""
    assert [] == critical_path([None], [()])
    assert len(critical_path([times_of(attempt(0, 1)), times_of(attempt(1, 1))], [(1,), (0,)])) <= 3


def test_the_shortest_run_has_a_worker_for_each_step() -> None:
    """Steps side by side take as long as the longest, and a step can be left out."""
    deps: list[tuple[int, ...]] = [(), (), (0, 1)]

    assert [2.0, 5.0, 6.0] == shortest_ends([2.0, 5.0, 1.0], deps, [0, 1, 2])
    assert [2.0, 0.0, 3.0] == shortest_ends([2.0, 5.0, 1.0], deps, [0, 1, 2], without=1)


def test_an_instance_waits_for_its_own_element() -> None:
    """An instance of a mapped step depends on the instance of the same key, a collecting step on all of them."""
    view = view_of(
        StepHeader(key="split", executor=0, level=0),
        StepHeader(key="a", executor=0, level=1, deps=(0,), mapped_over=0),
        StepHeader(key="b", executor=0, level=2, deps=(1,), mapped_over=1),
        StepHeader(key="merge", executor=0, level=3, deps=(2,)),
    )
    for number, key in enumerate(("split", "a[1]", "a[2]", "b[2]", "b[1]", "merge")):
        view.apply(started(key, 101.0 + number))

    named = {key: {dep.key for dep in dependencies(view, step)} for key, step in view.steps.items()}

    assert {
        "split": set(),
        "a[1]": {"split"},
        "a[2]": {"split"},
        "b[1]": {"a[1]"},
        "b[2]": {"a[2]"},
        "merge": {"b[1]", "b[2]"},
    } == named


# ---- lanes ----------------------------------------------------------------------------------------------------------


def test_a_worker_is_a_lane() -> None:
    """Attempts of one worker share its lane; what overlaps there, as async steps do, gets a second one."""
    items = [
        LaneItem(0, "parallel", "pid 1", 0.0, 2.0),
        LaneItem(1, "parallel", "pid 2", 0.0, 1.0),
        LaneItem(2, "parallel", "pid 1", 2.0, 3.0),
        LaneItem(3, "parallel", "pid 2", 0.5, 4.0),
    ]

    lanes = assign_lanes(items)

    assert [("pid 1", (0, 2), 3.0), ("pid 2 1", (1,), 1.0), ("pid 2 2", (3,), 3.5)] == [
        (lane.label, lane.items, lane.busy) for lane in lanes
    ]


def test_pods_share_slots() -> None:
    """Workers of one attempt each are packed into as many lanes as ran at once."""
    items = [LaneItem(number, "kubernetes", f"pod-{number}", number / 2, number / 2 + 1) for number in range(6)]

    lanes = assign_lanes(items)

    assert [("slot 1", (0, 2, 4)), ("slot 2", (1, 3, 5))] == [(lane.label, lane.items) for lane in lanes]


# ---- hints ----------------------------------------------------------------------------------------------------------


def facts(**changed: object) -> RunFacts:
    values: dict[str, object] = {
        "seconds": 100.0,
        "is_over": True,
        "shortest": 95.0,
        "without": {"slow": 90.0},
        "work": {"slow": 6.0},
        "before": 0.0,
        "queued": 0.0,
        "retried": 0.0,
        "boot": 0.0,
        "lanes": 1,
        "busy": 100.0,
    }
    return RunFacts(**{**values, **changed})  # type: ignore[arg-type]  # a table of fields


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [
        ({}, []),
        ({"is_over": False, "shortest": 1.0}, []),
        ({"seconds": 0.01, "shortest": 0.001}, []),
        ({"shortest": 40.0, "without": {"slow": 35.0}, "queued": 60.0}, ["workers"]),
        ({"shortest": 40.0, "without": {"slow": 35.0}, "before": 30.0}, ["before"]),
        ({"without": {"slow": 30.0}, "work": {"slow": 80.0}}, ["step"]),
        ({"without": {"slow": 30.0}, "boot": 60.0}, ["boot"]),
        ({"retried": 30.0, "boot": 20.0}, ["retries", "boot"]),
        ({"lanes": 8, "busy": 150.0}, ["idle"]),
        ({"lanes": 8, "busy": 150.0, "shortest": 50.0, "without": {"slow": 45.0}, "queued": 60.0}, ["workers"]),
    ],
)
def test_hints_name_what_would_shorten_the_run(changed: dict[str, object], kinds: list[str]) -> None:
    """A hint is given for what takes a tenth of the run, and none about idle workers where steps waited for one."""
    assert kinds == [hint.kind for hint in hints_of(facts(**changed))]


def test_idle_workers_are_counted() -> None:
    """The hint on idle workers says how many would do."""
    (hint,) = hints_of(facts(lanes=8, busy=150.0))

    assert "8 workers were idle for 81% of the run; the same work fills 2 workers." in hint.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.34, "340 ms"),
        (2.44, "2.4 s"),
        (59.97, "1 min 0 s"),
        (200.0, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    """A duration is written in the units that a person would choose."""
    assert text == format_seconds(seconds)


# ---- tracebacks -----------------------------------------------------------------------------------------------------

TEXT = """Traceback (most recent call last):
  File "/srv/shop/orders.py", line 4, in orders
    return read(path)
           ^^^^^^^^^^
  File "/opt/venv/lib/python3.11/site-packages/pandas/io.py", line 9, in read
    open(path)
  File "/usr/lib/python3.11/codecs.py", line 3, in open
FileNotFoundError: no such file

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/shop/main.py", line 7, in load
    raise Broken from error
shop.Broken: cannot load
  with a second line
"""


def test_frames_of_libraries_are_folded() -> None:
    """Consecutive frames of libraries are one folded part, and no line is lost."""
    parts = fold_traceback(TEXT)

    assert [(False, 1), (True, 2), (False, 1)] == [(part.is_folded, part.frames) for part in parts]
    assert TEXT.rstrip("\n") == "\n".join(part.text for part in parts)
    assert "/srv/shop/main.py:7 in load" == user_frame(TEXT)


def test_a_traceback_of_libraries_alone_is_shown() -> None:
    """Where no frame is the user's, nothing is folded away."""
    text = 'Traceback:\n  File "/usr/lib/python3.11/json/decoder.py", line 3, in decode\nValueError: x'

    assert [(text, False, 1)] == fold_traceback(text)
    assert user_frame(text) is None
