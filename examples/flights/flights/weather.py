"""The cleaned weather, and delays by it."""

from __future__ import annotations

import numpy as np
import pandas as pd

import rivers as rs
from flights.delays import figures_by

WIND_LIMIT = 120.0
"""Miles per hour above which a wind speed is a broken reading: EWR has one of 1,048 on 12 February 2013."""

VISIBILITY = {0.0: "<1", 1.0: "1-3", 3.0: "3-5", 5.0: "5-10", 10.0: "10"}
WIND = {0.0: "<5", 5.0: "5-10", 10.0: "10-15", 15.0: "15-20", 20.0: "20-25", 25.0: "25-30", 30.0: "30+"}
PRECIPITATION = {0.0: "none", 0.01: "<0.05", 0.05: "0.05-0.1", 0.1: "0.1-0.25", 0.25: "0.25+"}
"""Bands by their lower edge, which belongs to them, and what they are called."""


@rs.Asset(group="clean")
def clean_weather(context: rs.AssetExecutionContext, weather: pd.DataFrame) -> pd.DataFrame:
    """One row per airport and hour (UTC): visibility (miles), wind (mph), precipitation (inches an hour).

    Wind speeds above `WIND_LIMIT` are broken readings and become unknown; the hour itself stays.
    """
    table = weather[["origin", "time_hour", "visib", "wind_speed", "precip"]].copy()
    broken = table["wind_speed"] > WIND_LIMIT
    table["wind_speed"] = table["wind_speed"].mask(broken)
    context.add_output_metadata({"rows": len(table), "broken_wind_speeds": int(broken.sum())})
    return table


def figures_by_band(flights: pd.DataFrame, column: str, bands: dict[float, str]) -> pd.DataFrame:
    """Return the `figures` per band of `column`; flights without a weather report for their hour are left out."""
    band = pd.cut(flights[column], [*bands, np.inf], right=False, labels=list(bands.values()))
    return figures_by(flights.assign(**{column: band}), column)


@rs.Asset.from_multi(
    output_defs=[
        rs.AssetDef("visibility_delays", group="weather"),
        rs.AssetDef("wind_delays", group="weather"),
        rs.AssetDef("precipitation_delays", group="weather"),
    ]
)
def weather_delays(joined_flights: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Figures per band of visibility, wind and precipitation at the origin, in the hour of scheduled departure."""
    return {
        "visibility_delays": figures_by_band(joined_flights, "visib", VISIBILITY),
        "wind_delays": figures_by_band(joined_flights, "wind_speed", WIND),
        "precipitation_delays": figures_by_band(joined_flights, "precip", PRECIPITATION),
    }
