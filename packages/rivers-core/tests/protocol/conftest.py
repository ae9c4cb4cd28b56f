"""What several tests of the protocol start from."""

from __future__ import annotations

import pytest

from rivers.protocol import ImportRef, StepSpec


@pytest.fixture
def spec() -> StepSpec:
    """A spec with only what is required."""
    return StepSpec(
        run_id="run", step="orders", attempt_id="attempt", function=ImportRef(module="shop.assets", qualname="orders")
    )
