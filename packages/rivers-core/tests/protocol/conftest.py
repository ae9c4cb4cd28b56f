"""A spec that tests of the protocol start from, and settings of hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from rivers.protocol import ImportRef, StepSpec

# Whole specs take long to make, and a loaded machine is slow: neither is a fault of the codec.
settings.register_profile("specs", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("specs")


@pytest.fixture
def spec() -> StepSpec:
    """A spec with only what is required."""
    return StepSpec(
        run_id="run", step="orders", attempt_id="attempt", function=ImportRef(module="shop.assets", qualname="orders")
    )
