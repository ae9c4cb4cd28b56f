"""The executor as a value."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import ConfigurationError
from rivers_executor_dask import DaskExecutor


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"address": "scheduler"}, "invalid address='scheduler': expected an address such as"),
        ({"address": 8786}, "invalid address=8786: expected the scheduler's address, a distributed.Client"),
        ({"max_concurrent_steps": 0}, "invalid max_concurrent_steps=0: expected a whole number of at least 1, or None"),
        ({"max_concurrent_steps": True}, "invalid max_concurrent_steps=True"),
        ({"priority": 1.5}, "invalid priority=1.5: expected a whole number"),
        ({"resources": "GPU"}, "invalid resources='GPU': expected NAME=AMOUNT"),
        ({"connect_timeout": 0}, "invalid connect_timeout=0: expected a number of seconds above 0"),
        ({"startup_timeout": float("inf")}, "invalid startup_timeout=inf"),
        ({"allow_pickle": 1}, "invalid allow_pickle=1: expected True or False"),
    ],
)
def test_invalid_arguments(arguments: dict[str, Any], text: str) -> None:
    """A wrong argument is refused when the value is made, naming it, its value and what is expected."""
    with pytest.raises(ConfigurationError, match=text):
        DaskExecutor(**arguments)


def test_it_is_a_value() -> None:
    """Executors are equal by their fields, hashable, and their repr can be pasted."""
    executor = DaskExecutor("tcp://scheduler:8786", priority=3)

    assert executor == DaskExecutor("tcp://scheduler:8786", priority=3) == pickle.loads(pickle.dumps(executor))
    assert 1 == len({executor, DaskExecutor("tcp://scheduler:8786", priority=3)})
    assert executor == eval(repr(executor), {"DaskExecutor": DaskExecutor})


def test_the_value_imports_nothing_of_dask() -> None:
    """A body's process, which imports the user's modules, imports no Dask for them."""
    code = "import sys, rivers_executor_dask as d; d.DaskExecutor(); print({'dask', 'distributed'} & {*sys.modules})"

    assert "set()" == subprocess.check_output([sys.executable, "-c", code], text=True).strip()


def test_found_by_its_name() -> None:
    """`rivers/executor: "dask"` is enough where Dask's configuration names the cluster."""
    repo = rs.CodeRepository(
        [rs.Asset(name="x", metadata={"rivers/executor": "dask"}, io_handler=rs.PickleIOHandler("s3://b"))(_one)]
    )

    assert DaskExecutor() == repo.plan().steps[0].executor


def _one() -> int:
    return 1
