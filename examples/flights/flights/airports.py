"""Delays per airport: the flights are split by airport, and each airport is a step of its own.

joined_flights → split_by_… → airport_figures[ATL] … airport_figures[XNA] → one table
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

import rivers as rs
from flights.delays import figures


def split(flights: pd.DataFrame, column: str) -> list[rs.DynamicOutput]:
    """Return one output per airport in `column`, named by its code: the code and the columns for `figures`."""
    parts = flights.groupby(column, observed=True)[["status", "dep_delay", "arr_delay"]]
    return [rs.DynamicOutput(key=str(code), value=(str(code), part)) for code, part in parts]


@rs.Task
def split_by_origin(joined_flights: pd.DataFrame) -> list[rs.DynamicOutput]:
    """The flights of each of the three airports of New York."""
    return split(joined_flights, "origin")


@rs.Task
def split_by_destination(joined_flights: pd.DataFrame) -> list[rs.DynamicOutput]:
    """The flights to each of the 105 destinations."""
    return split(joined_flights, "dest")


@rs.Task
def airport_figures(part: tuple[str, pd.DataFrame]) -> dict[str, Any]:
    """The figures of one airport; both graphs below map over this task."""
    code, flights = part
    return {"airport": code, **figures(flights)}


@rs.Task
def origin_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows of all origins, by code."""
    return pd.DataFrame(rows).set_index("airport").sort_index()


@rs.Task
def destination_table(rows: Iterable[dict[str, Any]], airports: pd.DataFrame) -> pd.DataFrame:
    """The rows of all destinations as they come in, with name and place (degrees) where known, by code."""
    table = pd.DataFrame(list(rows)).set_index("airport").sort_index()
    places = airports.set_index("faa")[["name", "lat", "lon"]]
    return table.join(places)


@rs.Asset.from_graph(group="airports")
def origin_delays(joined_flights: pd.DataFrame) -> Any:
    """Figures per airport of departure; the table waits for all of them."""
    return origin_table(split_by_origin(joined_flights).map(airport_figures).collect())


@rs.Asset.from_graph(group="airports", io_handler="warehouse")
def destination_delays(joined_flights: pd.DataFrame, airports: pd.DataFrame) -> Any:
    """Figures per destination; the table takes each one as it is done."""
    rows = split_by_destination(joined_flights).map(airport_figures).collect_stream()
    return destination_table(rows, airports)
