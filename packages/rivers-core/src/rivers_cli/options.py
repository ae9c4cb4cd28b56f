"""The options and arguments that commands of `rivers` take: names, help texts, completion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rivers_cli.completion import (
    complete_executor,
    complete_field,
    complete_job,
    complete_run,
    complete_select,
    complete_step,
    complete_target,
)

__all__ = [
    "AsJson",
    "Backfill",
    "Config",
    "DurabilityOption",
    "EnvFile",
    "Events",
    "ExecutorKind",
    "Format",
    "Home",
    "JobName",
    "KindName",
    "Laws",
    "Live",
    "LogLevel",
    "MaxParallel",
    "Opened",
    "Partition",
    "Partitions",
    "Quiet",
    "Report",
    "ResumeIfInterrupted",
    "ResumedRun",
    "RetryFailed",
    "RunId",
    "Select",
    "Settings",
    "StepOfRun",
    "Tags",
    "Target",
    "Verbose",
]

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="package.module, package.module:name, or path/to/file.py with a CodeRepository.",
        autocompletion=complete_target,
    ),
]
Select = Annotated[
    list[str],
    typer.Option(
        "--select",
        "-s",
        metavar="SELECTOR",
        help="A name, a pattern (stg_*), +name, name+, group:NAME or tag:NAME; may be repeated.",
        autocompletion=complete_select,
    ),
]
JobName = Annotated[
    str | None,
    typer.Option("--job", "-j", metavar="NAME", help="Run a job of the repository.", autocompletion=complete_job),
]
ExecutorKind = Annotated[
    str | None,
    typer.Option(
        "--executor",
        "-e",
        metavar="KIND",
        help="The executor of steps that name none.",
        autocompletion=complete_executor,
    ),
]
Partition = Annotated[
    str | None, typer.Option("--partition", "-p", metavar="KEY", help="The partition that partitioned assets make.")
]
Partitions = Annotated[
    str | None,
    typer.Option("--partitions", metavar="KEYS", help="A backfill: A..B, all, or keys with commas; a run for each."),
]
MaxParallel = Annotated[
    int | None, typer.Option("--max-parallel", min=1, metavar="N", help="Partitions of a backfill at once; else 1.")
]
Backfill = Annotated[
    str | None, typer.Option("--backfill", metavar="NAME", help="A name, to run again what has succeeded.")
]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A field of the executor; may be repeated.", autocompletion=complete_field
    ),
]
Laws = Annotated[
    list[str],
    typer.Option("--law", metavar="NAME", help="A law to judge by, in place of all quick ones; may be repeated."),
]
EnvFile = Annotated[Path | None, typer.Option("--env-file", metavar="FILE", help="Variables as NAME=value lines.")]
Home = Annotated[
    Path | None,
    typer.Option("--home", metavar="FOLDER", help="The folder of records; else $RIVERS_HOME or .rivers."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print tracebacks of errors.")]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="YAML or JSON: {asset: {field: value}}.")
]
Tags = Annotated[list[str], typer.Option("--tag", metavar="NAME=VALUE", help="A tag of the run; may be repeated.")]
Events = Annotated[
    Path | None, typer.Option("--events", metavar="FILE", help="Append the events to a file of JSON lines.")
]
Report = Annotated[
    Path | None, typer.Option("--report", "-o", metavar="FILE", help="Write the picture of the run as HTML.")
]
Opened = Annotated[bool, typer.Option("--open", help="Open the picture in the browser.")]
Live = Annotated[bool, typer.Option("--live", help="Serve the picture on this machine while the run goes on.")]
RetryFailed = Annotated[
    str | None,
    typer.Option(
        "--retry-failed",
        metavar="[RUN]",
        help="Start a new run of what did not succeed in a run; else in the newest of the target.",
        autocompletion=complete_run,
    ),
]
ResumeIfInterrupted = Annotated[
    bool,
    typer.Option(
        "--resume-if-interrupted", help="Carry on the last run of the same choice if it was killed or cancelled."
    ),
]
Durable = Annotated[
    bool,
    typer.Option(
        "--durable", help="Let steps go on when this process is killed or gets SIGTERM; a resume adopts them."
    ),
]
DurabilityOption = Annotated[
    str,
    typer.Option(
        "--durability", metavar="LEVEL", help="What the record survives: a kill (process) or power cuts (power)."
    ),
]
LogLevel = Annotated[
    str,
    typer.Option(
        "--log-level", metavar="LEVEL", help="Show log records from this level on: debug, info, warning, error."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing unless the run fails.")]
SkipUnchanged = Annotated[
    bool, typer.Option("--skip-unchanged", help="Run only the steps whose code, config or inputs have changed.")
]
Why = Annotated[bool, typer.Option("--why", help="Say of each step whether it is unchanged, or what has changed.")]
Format = Annotated[str, typer.Option("--format", "-f", metavar="FORMAT", help="text, mermaid, dot (Graphviz) or json.")]
RunId = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="The id of a run, its beginning, or the path of a record; else the newest.",
        autocompletion=complete_run,
    ),
]
ResumedRun = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="The id of a run, its beginning, or the path of a record; else the newest that did not succeed.",
        autocompletion=complete_run,
    ),
]
StepOfRun = Annotated[
    list[str],
    typer.Argument(metavar="[RUN] STEP", help="A step of the run; else of the newest.", autocompletion=complete_step),
]
KindName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The kind of an executor, such as parallel.", autocompletion=complete_executor),
]
