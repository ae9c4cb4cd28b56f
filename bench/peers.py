"""Peers to compare with: other libraries doing the same fan-out, and code written by hand."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import rivers as rs

UPSTREAM = """
import time, rivers as rs
@rs.Asset(name="source")
def source(): return 1
def one(i):
    def body(source): return source
    return rs.Asset(name=f"asset_{i}")(body)
repository = rs.CodeRepository([source, *(one(i) for i in range(1000))], default_executor=rs.Executor.in_process())
repository.resolve()
best = 9e9
for _ in range(3):
    start = time.perf_counter()
    repository.materialize()
    best = min(best, time.perf_counter() - start)
print("seconds", best)
"""


@rs.Task
def numbers() -> list[int]:
    return list(range(1000))


@rs.Task
def square(number: int) -> int:
    return number * number


@rs.Task
def last(squares: list[int]) -> int:
    return squares[-1]


@rs.Asset.from_graph
def mapped_squares() -> Any:
    return last(numbers().map(square).collect())


def available_peers() -> Iterator[tuple[str, Callable[[], object]]]:
    """Return the installed peers, each with a function that runs a fan-out of 1,000 no-op steps in this process."""
    try:
        import dask

        yield f"dask {dask.__version__} (synchronous)", _dask
    except ImportError:
        print("  dask is not installed: not measured")
    try:
        from hamilton import version

        yield f"hamilton {'.'.join(map(str, version.VERSION))}", _hamilton()
    except ImportError:
        print("  hamilton is not installed: not measured")


def _dask() -> object:
    import dask

    source = dask.delayed(lambda: 1)()
    work = [dask.delayed(lambda value: value)(source) for _ in range(1000)]
    return dask.compute(*work, scheduler="synchronous")


def _hamilton() -> Callable[[], object]:
    from hamilton import ad_hoc_utils, driver

    functions: list[Callable[..., object]] = []
    code = "def source() -> int:\n    return 1\n" + "".join(
        f"def asset_{i}(source: int) -> int:\n    return source\n" for i in range(1000)
    )
    names: dict[str, Any] = {}
    exec(code, names)
    functions = [names["source"], *(names[f"asset_{i}"] for i in range(1000))]
    module = ad_hoc_utils.create_temporary_module(*functions, module_name="fan_out_of_1000")
    run = driver.Builder().with_modules(module).build()
    wanted = [f"asset_{i}" for i in range(1000)]
    return lambda: run.execute(wanted)


def upstream(line: Callable[..., None], interpreter: str) -> None:
    """Measure the PyPI project of the same import name, in an environment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "fan_out.py")  # with -c it runs nothing, as it finds no source
        script.write_text(UPSTREAM, encoding="utf-8")
        done = subprocess.run([interpreter, script], capture_output=True, text=True, check=False)
    found = [text for text in done.stdout.splitlines() if text.startswith("seconds ")]
    if not found:
        print(f"  rivers 0.6.2 could not be measured: {done.stderr.strip().splitlines()[-1:]}")
        return
    line("  rivers 0.6.2 of PyPI, fan-out of 1,000", f"{float(found[0].split()[1]) / 1000 * 1e6:.1f} us/step")


def write_carefully(folder: Path, name: str, value: object) -> None:
    """Write a value as a careful author would: whole or not at all, on disk, with a digest."""
    data = pickle.dumps(value, 5)
    data += hashlib.sha256(data).digest()
    temporary = f"{folder}/.{name}"
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, f"{folder}/{name}")
    directory = os.open(folder, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def read_carefully(folder: Path, name: str) -> object:
    """Read the value, and check its digest."""
    data = Path(folder, name).read_bytes()
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise ValueError(f"{name} is corrupt")
    return pickle.loads(data[:-32])
