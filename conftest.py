"""What holds for every test session of the workspace."""

from __future__ import annotations

import faulthandler
import signal
from importlib import metadata

import pytest

# Their package is not installed here: tests/test_executor_template.py runs them in an environment that has it.
collect_ignore = ["examples/executor-template"]


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to start beside the other project of our import name: which of the two is tested would be chance."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background job ignores Ctrl-C, and so would all processes that tests start and interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        other = metadata.version("rivers")
    except metadata.PackageNotFoundError:
        return
    raise pytest.UsageError(
        f"the distribution `rivers` {other} is installed here: it is another project that owns the same import name as "
        "rivers-core.\n  → pip uninstall rivers, then install rivers-core again (its files may have been overwritten)"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the pages of the documentation more time: one may run a dozen programs, each of which starts workers."""
    # Here, as test_docs.py is also a script that does not import pytest.
    for item in items:
        if item.path.name == "test_docs.py":
            item.add_marker(pytest.mark.timeout(240))


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave tests that take long to their own limit: `faulthandler_timeout` would end the whole session before it."""
    if item.get_closest_marker("long") is not None:
        faulthandler.cancel_dump_traceback_later()
