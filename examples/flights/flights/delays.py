"""Delays per carrier, hour, age of the plane and route; all analyses of this package report `figures`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

import rivers as rs

LATE = 15
"""Minutes from which an arrival counts as late, as the US Department of Transportation counts it."""

ROUTE_FLIGHTS = 365
"""Arrivals from which a route is ranked: one a day, so that a route flown twice is neither best nor worst."""


def figures(flights: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of some flights.

    `flights` is their number and `cancelled` the share of them that never left; `dep_delay` the mean of those that
    left, in minutes; `arr_delay`, `arr_delay_p90` and `late` the mean, the 90th percentile (minutes) and the share at
    least `LATE` minutes late, of those that arrived. Early flights count as negative delays.
    """
    arrived = flights["arr_delay"].dropna()
    return {
        "flights": len(flights),
        "cancelled": float((flights["status"] == "cancelled").mean()),
        "dep_delay": float(flights["dep_delay"].mean()),
        "arr_delay": float(arrived.mean()),
        "arr_delay_p90": float(arrived.quantile(0.9)),
        "late": float((arrived >= LATE).mean()),
    }


def figures_by(flights: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the `figures` of each value of `column`, in its order; flights without a value are left out."""
    rows = {value: figures(part) for value, part in flights.groupby(column, observed=True)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(column)


@rs.Asset(group="delays", io_handler="warehouse")
def carrier_delays(context: rs.AssetExecutionContext, joined_flights: pd.DataFrame) -> pd.DataFrame:
    """Figures per airline, the latest on arrival first."""
    table = figures_by(joined_flights, "airline").sort_values("arr_delay", ascending=False)
    context.log.info("latest on arrival: %s, %.1f min", table.index[0], table["arr_delay"].iloc[0])
    return table


@rs.Asset(group="delays")
def hour_delays(joined_flights: pd.DataFrame) -> pd.DataFrame:
    """Figures per hour of the day in which the departure was scheduled, local time."""
    return figures_by(joined_flights, "hour")


@rs.Asset(group="delays")
def plane_age_delays(joined_flights: pd.DataFrame) -> pd.DataFrame:
    """Figures per age of the plane, in bands of five years; planes of unknown age are left out."""
    bands = pd.cut(
        joined_flights["plane_age"],
        [-1, 4, 9, 14, 19, 24, 100],
        labels=["0-4", "5-9", "10-14", "15-19", "20-24", "25 and older"],
    )
    return figures_by(joined_flights.assign(plane_age=bands), "plane_age")


@rs.Asset.from_multi(
    output_defs=[
        rs.AssetDef("best_routes", group="delays"),
        rs.AssetDef("worst_routes", group="delays"),
    ]
)
def ranked_routes(joined_flights: pd.DataFrame) -> Iterator[rs.Output]:
    """The ten routes that arrive earliest and the ten that arrive latest, by mean arrival delay in minutes."""
    flown = joined_flights.dropna(subset=["arr_delay"])
    routes = flown.groupby(["origin", "dest"], observed=True)["arr_delay"].agg(flights="size", arr_delay="mean")
    routes = routes[routes["flights"] >= ROUTE_FLIGHTS].sort_values("arr_delay", kind="stable").reset_index()
    ranked = {"routes_ranked": len(routes)}
    yield rs.Output(routes.head(10), output_name="best_routes", metadata=ranked)
    yield rs.Output(routes.tail(10)[::-1].reset_index(drop=True), output_name="worst_routes", metadata=ranked)
