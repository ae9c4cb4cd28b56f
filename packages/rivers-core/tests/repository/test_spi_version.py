"""Backends made for another version of the SPI: refused before anything starts, with both versions and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import pytest

import rivers as rs
from rivers.exceptions import ConfigurationError, ExecutorNotInstalledError, GraphValidationError
from rivers.spi import SPI_VERSION, ExecutorBackend

Install = Callable[..., type]
MAJOR, MINOR = SPI_VERSION
HERE = f"{MAJOR}.{MINOR}"


def refuse() -> int:
    raise AssertionError("a step has started")


@pytest.mark.parametrize(
    ("made_for", "upgraded"),
    [
        ((MAJOR + 1, 0), "rivers-core"),
        ((MAJOR, MINOR + 1), "rivers-core"),
        ((MAJOR - 1, 9), "rivers_test_other"),
    ],
)
def test_another_version(install: Install, made_for: tuple[int, int], upgraded: str) -> None:
    """The error names the distribution, both versions and the package to upgrade; no step has started."""
    executor = install("other", spi_version=made_for)
    repository = rs.CodeRepository([rs.Asset(refuse, name="one")])

    with pytest.raises(ConfigurationError) as raised:
        repository.materialize(executor=executor())

    other = f"the executor 'other' of rivers_test_other 1.0 is made for version {made_for[0]}.{made_for[1]}"
    here = f"rivers-core {version('rivers-core')} has version {HERE}"
    assert f"{other} of rivers.spi, and {here}" == raised.value.message
    assert f"pip install --upgrade {upgraded}" == raised.value.hint


@pytest.mark.parametrize("how", ["default", "metadata", "job"])
def test_found_by_resolve(install: Install, how: str) -> None:
    """`resolve()` finds it wherever the executor is named, without a run."""
    executor = install("other", spi_version=(MAJOR + 1, 0))
    one = rs.Asset(refuse, name="one", metadata={"rivers/executor": "other"} if how == "metadata" else None)
    repository = rs.CodeRepository(
        [one],
        default_executor=executor() if how == "default" else None,
        jobs=[rs.Job("nightly", [one], executor=executor())] if how == "job" else [],
    )

    with pytest.raises(
        (ConfigurationError, GraphValidationError), match=rf"version {MAJOR + 1}\.0 .* version {HERE}"
    ) as raised:
        repository.resolve()
    assert "pip install --upgrade rivers-core" in str(raised.value)


@pytest.mark.parametrize("made_for", [None, (MAJOR, 0), SPI_VERSION])
def test_this_version(install: Install, made_for: tuple[int, int] | None) -> None:
    """A backend made for this minor or an earlier one of the same major runs; so does one that declares nothing."""
    executor = install("same", spi_version=made_for)

    assert rs.CodeRepository([rs.Asset(lambda: 1, name="one")]).materialize(executor=executor()).success


def test_undeclared_is_the_first_version() -> None:
    """A backend that declares no version is made for 1.0, also when a later rivers-core is installed."""
    assert (1, 0) == ExecutorBackend.spi_version


@pytest.mark.parametrize("wrong", ["1.0", 1, (1,), (1, "0"), (True, 0), [1, 0]])
def test_malformed(install: Install, wrong: object) -> None:
    """A version that is no pair of numbers is refused, with the value and an example."""
    executor = install("wrong", spi_version=wrong)

    with pytest.raises(
        ConfigurationError, match=r"invalid spi_version=.* expected two whole numbers, such as \(1, 0\)"
    ):
        rs.CodeRepository([rs.Asset(refuse, name="one")], default_executor=executor()).resolve()


def test_missing_name(install: Install) -> None:
    """A package that imports a name which rivers.spi does not have is refused with the version here and the remedy."""
    install("ahead", source="from rivers.spi import of_a_later_version")
    named = rs.Asset(refuse, name="one", metadata={"rivers/executor": "ahead"})

    with pytest.raises((ExecutorNotInstalledError, GraphValidationError)) as raised:
        rs.CodeRepository([named]).resolve()

    assert "of_a_later_version" in str(raised.value)
    assert f"with version {HERE} of rivers.spi is installed" in str(raised.value)
    assert "pip install --upgrade rivers_test_ahead rivers-core" in str(raised.value)
