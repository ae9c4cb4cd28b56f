"""`rs.Partitions`: keys, selections and refusals."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

import rivers as rs
from rivers.exceptions import AssetDefinitionError, ConfigurationError

NOVEMBER = rs.Partitions.daily("2026-11-01", "2026-11-05")


def test_daily_keys_are_iso_dates_from_the_first_to_the_last() -> None:
    assert NOVEMBER.keys() == ("2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05")
    assert rs.Partitions.daily(date(2026, 2, 28), date(2026, 3, 1)).keys() == ("2026-02-28", "2026-03-01")


def test_a_day_is_a_partition_once_it_is_over_in_its_zone() -> None:
    now = datetime(2026, 11, 2, 23, 30, tzinfo=UTC)
    assert rs.Partitions.daily("2026-11-01").keys(now) == ("2026-11-01",)
    # It is the 3rd in Berlin already.
    assert rs.Partitions.daily("2026-11-01", timezone="Europe/Berlin").keys(now) == ("2026-11-01", "2026-11-02")
    assert rs.Partitions.daily("2026-11-03").keys(now) == ()


def test_today_is_no_partition_yet() -> None:
    today = datetime.now(UTC).date()
    assert today.isoformat() not in rs.Partitions.daily("2020-01-01")
    assert "2020-01-01" in rs.Partitions.daily("2020-01-01")


@pytest.mark.parametrize("key", ["2026-10-31", "2026-11-06", "20261101", "2026-W45-1", "2026-11-1", "x", 5, None])
def test_what_is_no_key_is_not_contained(key: object) -> None:
    assert key not in NOVEMBER


def test_equal_definitions_are_the_same_and_show_how_they_are_made() -> None:
    for made in (
        NOVEMBER,
        rs.Partitions.daily("2026-11-01", timezone="Europe/Berlin"),
        rs.Partitions.static(["de", "fr"]),
    ):
        again = eval(repr(made), {"Partitions": rs.Partitions})
        assert again == made
        assert hash(again) == hash(made)
    assert rs.Partitions.daily(date(2026, 11, 1), "2026-11-05") == NOVEMBER
    assert rs.Partitions.static(["de", "fr"]) != rs.Partitions.static(["fr", "de"])


@pytest.mark.parametrize(
    ("expression", "keys"),
    [
        ("2026-11-02..2026-11-04", ("2026-11-02", "2026-11-03", "2026-11-04")),
        ("all", NOVEMBER.keys()),
        ("2026-11-05, 2026-11-01", ("2026-11-01", "2026-11-05")),
        ("2026-11-01..2026-11-02,2026-11-02", ("2026-11-01", "2026-11-02")),
    ],
)
def test_an_expression_selects_keys_in_their_order(expression: str, keys: tuple[str, ...]) -> None:
    assert NOVEMBER.select(expression) == keys


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("2026-11-04..2026-11-02", "expected the earlier key first"),
        ("2026-11-04..2026-12-02", "did you mean '2026-11-05'"),
        ("", "expected a day from 2026-11-01 to 2026-11-05"),
        ("2026-11-01..", "expected a day from"),
    ],
)
def test_an_expression_that_selects_no_keys_is_refused(expression: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        NOVEMBER.select(expression)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rs.Partitions.daily("2026-11-31"), "invalid start='2026-11-31': expected a date"),
        (lambda: rs.Partitions.daily(datetime(2026, 11, 1, tzinfo=UTC)), "write start='2026-11-01'"),
        (lambda: rs.Partitions.daily("2026-11-02", "2026-11-01"), "not before start='2026-11-02'"),
        (lambda: rs.Partitions.daily("2026-11-01", timezone="Europe/Berln"), "did you mean 'Europe/Berlin'"),
        (lambda: rs.Partitions.static([]), "expected at least one key"),
        (lambda: rs.Partitions.static("de"), "a list of one"),
        (lambda: rs.Partitions.static(["de", "fr", "de"]), "'de' is there twice"),
        (lambda: rs.Partitions.static(["all"]), "selects every partition"),
    ],
)
def test_invalid_arguments_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("key", ["", "a/b", "a[b]", "a@b", "a,b", "a..b", ".a", "a.", "a b", "ä", "x" * 64, 5])
def test_keys_that_are_unsafe_in_a_name_are_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="invalid partition key="):
        rs.Partitions.static([key])


def test_an_asset_takes_partitions_and_nothing_else() -> None:
    with pytest.raises(AssetDefinitionError, match=r"write partitions=rs.Partitions.static\(\['de'\]\)"):
        rs.Asset(partitions=["de"])  # type: ignore[arg-type]


def test_a_decorator_keeps_its_partitions() -> None:
    settings = rs.Asset(partitions=NOVEMBER)

    @settings
    def orders() -> int:
        return 1

    assert orders.partitions == NOVEMBER
