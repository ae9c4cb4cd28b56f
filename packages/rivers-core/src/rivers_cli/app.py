"""The commands of `rivers`: options and help texts."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from rivers_cli.options import (
    AsJson,
    Backfill,
    Config,
    DurabilityOption,
    Durable,
    EnvFile,
    Events,
    ExecutorKind,
    Format,
    Home,
    JobName,
    KindName,
    Laws,
    Live,
    LogLevel,
    MaxParallel,
    Opened,
    Partition,
    Partitions,
    Quiet,
    Report,
    ResumedRun,
    ResumeIfInterrupted,
    RetryFailed,
    RunId,
    Select,
    Settings,
    SkipUnchanged,
    StepOfRun,
    Tags,
    Target,
    Verbose,
    Why,
)

__all__ = ["app"]

app = typer.Typer(
    name="rivers",
    help="Run data assets: here, across the cores of this machine, or on a cluster.",
    epilog="Exit codes: 0 ok, 1 a step failed, 2 definition or usage, 3 infrastructure, 4 cancelled, 130 Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Rich help takes another 0.1 s.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

executors_app = typer.Typer(invoke_without_command=True, help="List the executors, or check one.")
app.add_typer(executors_app, name="executors")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"rivers-core {version('rivers-core')}")
        raise typer.Exit


@app.callback()
def root(
    is_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options of the program itself."""


@app.command()
def run(
    target: Target,
    select: Select = [],  # noqa: B006 - typer reads the default and copies it
    job: JobName = None,
    partition: Partition = None,
    partitions: Partitions = None,
    max_parallel: MaxParallel = None,
    backfill: Backfill = None,
    executor: ExecutorKind = None,
    settings: Settings = [],  # noqa: B006 - the same
    config: Config = None,
    env_file: EnvFile = None,
    tags: Tags = [],  # noqa: B006 - the same
    home: Home = None,
    events: Events = None,
    report: Report = None,
    is_opened: Opened = False,
    live: Live = False,
    retry_failed: RetryFailed = None,
    resumes: ResumeIfInterrupted = False,
    durable: Durable = False,
    skips: SkipUnchanged = False,
    durability: DurabilityOption = "process",
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run the steps of a repository. They are shown while they run, and the run is recorded."""
    options = {**locals()}
    from rivers.cli.command import carry_out

    del options["verbose"]
    several = {name: options.pop(name) for name in ("partitions", "max_parallel", "backfill")}
    if any(option is not None for option in several.values()):
        from rivers.cli.backfill import BackfillRequest, run_backfill

        many = BackfillRequest(**options, **several)
        raise typer.Exit(carry_out(lambda: run_backfill(many), verbose))
    from rivers.cli.run import RunRequest, run

    request = RunRequest(**options)
    raise typer.Exit(carry_out(lambda: run(request), verbose))


@app.command()
def resume(
    run: ResumedRun = None,
    target: Annotated[
        str, typer.Option("--target", metavar="TARGET", help="The repository; else the one that is recorded.")
    ] = "",
    executor: ExecutorKind = None,
    settings: Settings = [],  # noqa: B006 - typer reads the default and copies it
    config: Config = None,
    env_file: EnvFile = None,
    home: Home = None,
    events: Events = None,
    report: Report = None,
    is_opened: Opened = False,
    live: Live = False,
    durability: DurabilityOption = "process",
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Carry on a run that was interrupted or has failed. What it has committed does not run again."""
    from rivers.cli.command import carry_out
    from rivers.cli.resume import resume
    from rivers.cli.run import RunRequest

    request = RunRequest(
        target=target,
        executor=executor,
        settings=settings,
        config=config,
        env_file=env_file,
        home=home,
        events=events,
        report=report,
        is_opened=is_opened,
        live=live,
        durability=durability,
        log_level=log_level,
        quiet=quiet,
        json=json,
    )
    raise typer.Exit(carry_out(lambda: resume(run, request), verbose))


@app.command()
def plan(
    target: Target,
    select: Select = [],  # noqa: B006 - typer reads the default and copies it
    job: JobName = None,
    partition: Partition = None,
    executor: ExecutorKind = None,
    settings: Settings = [],  # noqa: B006 - typer reads the default and copies it
    env_file: EnvFile = None,
    config: Config = None,
    is_explained: Why = False,
    form: Format = "text",
    verbose: Verbose = False,
) -> None:
    """Print the steps of a run. They stand in levels with their executors, and nothing runs."""
    from rivers.cli.command import carry_out
    from rivers.cli.plan import plan
    from rivers.cli.request import PlanRequest

    request = PlanRequest(
        target=target,
        select=select,
        job=job,
        partition=partition,
        executor=executor,
        settings=settings,
        env_file=env_file,
        config=config,
    )
    raise typer.Exit(carry_out(lambda: plan(request, form, is_explained=is_explained), verbose))


@app.command()
def validate(target: Target, env_file: EnvFile = None, json: AsJson = False, verbose: Verbose = False) -> None:
    """Check a repository. Every mistake in its definitions is printed at once."""
    from rivers.cli.command import carry_out
    from rivers.cli.plan import validate
    from rivers.cli.request import PlanRequest

    request = PlanRequest(target=target, env_file=env_file)
    raise typer.Exit(carry_out(lambda: validate(request, json), verbose))


@executors_app.callback()
def executors(context: typer.Context, json: AsJson = False, verbose: Verbose = False) -> None:
    """List the executors of this environment: version and capabilities."""
    if context.invoked_subcommand is not None:
        return
    from rivers.cli.command import carry_out
    from rivers.cli.executors import list_executors

    raise typer.Exit(carry_out(lambda: list_executors(json), verbose))


@executors_app.command("check")
def check_executor(
    name: KindName,
    settings: Settings = [],  # noqa: B006 - typer reads the default and copies it
    laws: Laws = [],  # noqa: B006 - the same
    verbose: Verbose = False,
) -> None:
    """Load an executor, run two steps on it, and judge it by the quick laws of the conformance kit."""
    from rivers.cli.command import carry_out
    from rivers.cli.executors import check

    raise typer.Exit(carry_out(lambda: check(name, settings, laws, verbose), verbose))


# ── records ──

runs_app = typer.Typer(invoke_without_command=True, help="List the recorded runs, or delete old ones.")
app.add_typer(runs_app, name="runs")


@runs_app.callback()
def runs(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="The number of runs; 0 is all.")] = 20,
    home: Home = None,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """List the recorded runs, the newest first."""
    if context.invoked_subcommand is not None:
        return
    from rivers.cli.command import carry_out
    from rivers.cli.runs import list_runs

    raise typer.Exit(carry_out(lambda: list_runs(home, limit, json), verbose))


@runs_app.command()
def prune(
    keep: Annotated[int | None, typer.Option("--keep", metavar="N", help="Keep the newest N runs.")] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="TIME", help="Delete older runs: 7d, 12h.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Keep no more than this: 500MB, 2GB.")
    ] = None,
    home: Home = None,
    verbose: Verbose = False,
) -> None:
    """Delete old records. Without options, keep the newest 200 and 2 GiB, as each new run does."""
    from rivers.cli.command import carry_out
    from rivers.cli.runs import prune_runs

    raise typer.Exit(carry_out(lambda: prune_runs(home, keep, older_than, max_size), verbose))


@app.command()
def show(
    run: RunId = None,
    home: Home = None,
    json: AsJson = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print the whole tracebacks of steps, and of errors.")
    ] = False,
) -> None:
    """Print a recorded run. It has failures with your own lines of code, retries and the slowest steps."""
    from rivers.cli.command import carry_out
    from rivers.cli.show import show

    raise typer.Exit(carry_out(lambda: show(run, home, json, verbose), verbose))


@app.command()
def logs(
    step: StepOfRun,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the step ends.")] = False,
    home: Home = None,
    verbose: Verbose = False,
) -> None:
    """Print what a step has logged and printed."""
    # One list, as an argument that may be left out cannot stand before one that must be there.
    if len(step) > 2:
        raise typer.BadParameter(f"expected [RUN] STEP, not {len(step)} arguments")
    from rivers.cli.command import carry_out
    from rivers.cli.follow import logs

    run = step[0] if len(step) == 2 else None
    raise typer.Exit(carry_out(lambda: logs(run, step[-1], home, follow), verbose))


@app.command()
def watch(run: RunId = None, home: Home = None, verbose: Verbose = False) -> None:
    """Attach to a run of another process. It is shown until it ends, or until its process was killed."""
    from rivers.cli.command import carry_out
    from rivers.cli.follow import watch

    raise typer.Exit(carry_out(lambda: watch(run, home), verbose))


@app.command()
def report(
    run: RunId = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML file.")] = Path("run.html"),
    is_opened: Opened = False,
    home: Home = None,
    verbose: Verbose = False,
) -> None:
    """Write the picture of a recorded run. It is one HTML file that needs no network."""
    from rivers.cli.command import carry_out
    from rivers.cli.report import report

    raise typer.Exit(carry_out(lambda: report(run, home, output, is_opened), verbose))
