"""Assets as users write them; `notes` in their config is a file for what they have done."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from pydantic import BaseModel

import rivers as rs


class Notes(BaseModel):
    notes: str = os.devnull


Context = rs.AssetExecutionContext[Notes]


def note(context: Context, text: str) -> None:
    with Path(context.config.notes).open("a") as file:
        file.write(f"{text}\n")


@rs.Asset(io_handler="store")
def base() -> int:
    print("a line of base")
    return 20


@rs.Asset(io_handler="store")
def doubled(base: int) -> int:
    return 2 * base


@rs.Asset(io_handler="store")
def waits(context: Context) -> int:
    """Run until the file `notes` + ".go" is there."""
    note(context, f"body {os.getpid()}")
    while not Path(f"{context.config.notes}.go").exists():
        time.sleep(0.02)
    return 1


@rs.Asset(io_handler="store")
def sleeps(context: Context) -> int:
    note(context, f"body {os.getpid()}")
    time.sleep(120)
    return 1


@rs.Asset(io_handler="store")
def sleeps_too(context: Context) -> int:
    note(context, f"body {os.getpid()}")
    time.sleep(120)
    return 1


@rs.Asset(io_handler="store")
def starts_a_process(context: Context) -> int:
    child = subprocess.Popen(["sleep", "120"])
    note(context, f"child {child.pid}")
    time.sleep(120)
    return 1


@rs.Asset(io_handler="store", timeout=1)
def overdue() -> int:
    time.sleep(120)
    return 1


@rs.Asset(io_handler="store")
def exits() -> int:
    os._exit(0)


@rs.Asset(io_handler="store", compute=rs.Compute(gpu=1))
def on_gpu() -> int:
    return 1


@rs.Asset(io_handler="store", compute=rs.Compute(gpu=7))
def on_seven_gpus() -> int:
    return 1


@rs.Asset(io_handler="store", metadata={"rivers/dask/priority": "10"})
def urgent(context: Context) -> int:
    note(context, "urgent")
    return 1


@rs.Asset(io_handler="store")
def patient(context: Context) -> int:
    note(context, "patient")
    return 1


@rs.Asset(io_handler="store", metadata={"rivers/dask/priority": "soon"})
def wrong_priority() -> int:
    return 1


@rs.Asset(io_handler="store", metadata={"rivers/dask/resources": "GPU"})
def wrong_resources() -> int:
    return 1
