"""The repository: all assets, their job, and shared resources."""

from __future__ import annotations

from pathlib import Path

import rivers as rs
from flights import airports, delays, plots, tables, weather

ASSETS = [
    tables.airlines,
    tables.airports,
    tables.planes,
    tables.weather,
    tables.flights,
    tables.clean_flights,
    weather.clean_weather,
    tables.joined_flights,
    delays.carrier_delays,
    delays.hour_delays,
    delays.plane_age_delays,
    delays.ranked_routes,
    weather.weather_delays,
    airports.origin_delays,
    airports.destination_delays,
    plots.carrier_picture,
    plots.hour_picture,
    plots.weather_picture,
    plots.destination_picture,
]


def flights_repository(
    out: Path = Path("out"),
    executor: rs.Executor | None = None,
    store: str | None = None,
    *,
    keeps_all: bool = False,
) -> rs.CodeRepository:
    """Build the repository with pictures and values below `out`; `executor` runs the job's steps.

    With `store`, the URL of a bucket, all values are kept there: what steps in pods need. With `keeps_all` they are all
    kept below `out`: what later runs need that skip what did not change.
    """
    out = out.resolve()
    return rs.CodeRepository(
        assets=ASSETS,
        jobs=[rs.Job("flights", assets=ASSETS, executor=executor)],
        resources={
            "source": tables.Source(),
            "pictures": plots.Pictures(directory=out / "pictures"),
            "warehouse": rs.PickleIOHandler(store or (out / "values").as_uri()),
        },
        default_io_handler="warehouse" if store or keeps_all else None,
    )


repository = flights_repository()
"""What `rivers run flights.repository:repository` finds."""
