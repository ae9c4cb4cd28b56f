"""What holds for every test session of the workspace."""

from __future__ import annotations

from importlib import metadata

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to start beside the other project of our import name: which of the two is tested would be chance."""
    try:
        other = metadata.version("rivers")
    except metadata.PackageNotFoundError:
        return
    raise pytest.UsageError(
        f"the distribution `rivers` {other} is installed here: it is another project that owns the same import name as "
        "rivers-core.\n  → pip uninstall rivers, then install rivers-core again (its files may have been overwritten)"
    )
