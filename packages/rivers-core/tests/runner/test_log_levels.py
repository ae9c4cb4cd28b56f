"""The levels of the program's loggers decide what bodies log as events, on every executor."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import rivers as rs

EXECUTORS = [rs.Executor.in_process(), rs.Executor.parallel(max_workers=1)]
LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING)


@contextmanager
def levels(**wanted: int) -> Iterator[None]:
    """Give loggers levels for a while; the root logger is `root`."""
    before = {name: logging.getLogger(name).level for name in wanted}
    for name, level in wanted.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def speaks(context: rs.AssetExecutionContext) -> None:
    for name in ("shop", "shop.etl", "other"):
        for level in LEVELS:
            logging.getLogger(name).log(level, "%s", name)
    for level in LEVELS:
        context.log.log(level, "context")


def records(repository: rs.CodeRepository) -> set[tuple[str, int]]:
    told = rs.ListSink()
    repository.materialize(on_event=told)
    return {(event.message, event.level) for event in told.events if isinstance(event, rs.events.StepLog)}


@pytest.mark.parametrize("executor", EXECUTORS, ids=repr)
@pytest.mark.parametrize(
    ("set_to", "least"),
    [
        ({}, {"shop": 30, "shop.etl": 30, "other": 30, "context": 20}),
        ({"root": 20}, {"shop": 20, "shop.etl": 20, "other": 20, "context": 20}),
        ({"root": 10}, {"shop": 10, "shop.etl": 10, "other": 10, "context": 10}),
        ({"shop": 10, "other": 40}, {"shop": 10, "shop.etl": 10, "other": 40, "context": 20}),
        ({"root": 20, "shop": 30}, {"shop": 30, "shop.etl": 30, "other": 20, "context": 20}),
    ],
    ids=repr,
)
def test_what_loggers_let_through_is_an_event(
    executor: rs.Executor, set_to: dict[str, int], least: dict[str, int]
) -> None:
    """A record is an event where its logger lets it through in the program, and `context.log` from INFO on."""
    with (
        levels(**{"root": 30, **set_to}),
        rs.CodeRepository([rs.Asset(speaks)], default_executor=executor) as repository,
    ):
        found = records(repository)
    expected = {(name, level) for name, lowest in least.items() for level in LEVELS if level >= lowest}

    assert expected == {record for record in found if record[0] in least}


def test_a_warm_worker_has_the_levels_of_each_run() -> None:
    """A worker that is kept has the next run's levels, not those of the last one."""
    executor = rs.Executor.parallel(max_workers=1)
    with levels(root=30), rs.CodeRepository([rs.Asset(speaks)], default_executor=executor) as repository:
        logging.getLogger().setLevel(10)
        assert ("other", 10) in records(repository)
        logging.getLogger().setLevel(30)
        assert {30} == {level for name, level in records(repository) if name == "other"}


MODULE = """
import logging
import rivers as rs
logging.getLogger("shop").setLevel(logging.ERROR)

@rs.Asset
def quiet() -> None:
    logging.getLogger("shop").info("read")
"""


def test_the_programs_word_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A level that a module sets when a worker imports it gives way to what the program has set since."""
    (tmp_path / "rivers_test_quiet.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    quiet = importlib.import_module("rivers_test_quiet").quiet
    try:
        with (
            levels(shop=20),
            rs.CodeRepository([quiet], default_executor=rs.Executor.parallel(max_workers=1)) as repository,
        ):
            assert {("read", 20)} == records(repository)
    finally:
        logging.getLogger("shop").setLevel(logging.NOTSET)
        sys.modules.pop("rivers_test_quiet")
