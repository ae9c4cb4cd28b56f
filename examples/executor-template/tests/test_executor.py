"""The value that users write, and one run with it as they have it."""

from __future__ import annotations

from pathlib import Path

import acme_steps
import pytest
from rivers_executor_acme import AcmeExecutor

import rivers as rs
from rivers.exceptions import ConfigurationError


@pytest.mark.parametrize("wrong", [0, -1, True, "2", None, 1.5])
def test_invalid_arguments(wrong: object) -> None:
    """An invalid argument is refused when the value is made, with its name and value."""
    with pytest.raises(ConfigurationError, match=f"invalid max_workers={wrong!r}: expected"):
        AcmeExecutor(max_workers=wrong)  # type: ignore[arg-type]


def test_value() -> None:
    """Values with the same arguments are equal, and every argument has a default."""
    assert AcmeExecutor(max_workers=3) == AcmeExecutor(max_workers=3)
    assert AcmeExecutor().max_workers >= 1


@pytest.mark.parametrize("executor", [AcmeExecutor(max_workers=2), "acme"])
def test_run(tmp_path: Path, executor: AcmeExecutor | str) -> None:
    """Steps run in processes of their own, with the executor's value or by its name alone."""
    metadata = {"rivers/executor": executor} if isinstance(executor, str) else None
    total = rs.Asset(acme_steps.total, name="total", metadata=metadata)
    numbers = rs.Asset(acme_steps.numbers, name="numbers", metadata=metadata)
    default = executor if isinstance(executor, AcmeExecutor) else None
    store = rs.PickleIOHandler(tmp_path)
    with rs.CodeRepository([numbers, total], default_executor=default, default_io_handler=store) as repository:
        result = repository.materialize()

        assert ["acme", "acme"] == [step.executor for step in result.steps.values()]
        assert 6 == repository.load_node("total")
