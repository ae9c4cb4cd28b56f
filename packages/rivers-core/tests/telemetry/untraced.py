"""A run, after which the loaded modules of OpenTelemetry are printed; RIVERS_TEST_HIDE hides a package."""

from __future__ import annotations

import os
import sys

if hidden := os.environ.get("RIVERS_TEST_HIDE"):
    sys.modules[hidden] = None  # type: ignore[assignment]  # importing it raises ModuleNotFoundError

import rivers as rs


@rs.Asset
def numbers() -> int:
    return 1


for _ in range(2):
    rs.CodeRepository([numbers]).materialize()
print([name for name, module in sys.modules.items() if name.startswith("opentelemetry") and module is not None])
