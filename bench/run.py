"""Figures of rivers, each as a ratio to something measured in the same run: `nox -s bench`, or `python bench/run.py`.

Every figure is the best of several rounds, the two sides of a ratio taking turns, so that what else the machine does
hits both. A line says what was measured, the bar it is held to, and whether it was met; nothing here fails a build.

    python bench/run.py                 rivers alone
    python bench/run.py --peers         … and dask and hamilton, where they are installed
    python bench/run.py --upstream PY   … and the PyPI project `rivers` 0.6.2, in the environment of interpreter PY
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import platform
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import peers
from figures import ROUNDS, TMPFS, Table, best, micros
from parallel import parallel
from progress import progress
from shapes import fan_out, typical_spec

import rivers as rs
from rivers.protocol import decode_spec, encode_spec


def fan_outs(table: Table, with_peers: bool) -> None:
    small, large = (rs.CodeRepository(fan_out(n)) for n in (1000, 5000))
    small.resolve()
    large.resolve()
    a, b = best(small.materialize, large.materialize)
    us, us_large = micros(a, 1000), micros(b, 5000)
    table.line("fan-out of 1,000, in process, memory", f"{us:.1f} us/step", None, "<= 25 us", us <= 25)
    table.line(
        "fan-out of 5,000, in process, memory", f"{us_large:.1f} us/step", us_large / us, "<= 25 us", us_large <= 25
    )
    listened = best(lambda: small.materialize(on_event=lambda event: None), rounds=5)[0]
    table.line("  with a listener for events", f"{micros(listened, 1000):.1f} us/step", listened / a)
    mapped = rs.CodeRepository([peers.mapped_squares])
    mapped.resolve()
    fanned = best(mapped.materialize, rounds=5)[0]
    table.line("fan-out of 1,000 by map and collect", f"{micros(fanned, 1000):.1f} us/step", fanned / a)
    if with_peers:
        for name, run in peers.available_peers():
            seconds = best(run, rounds=3)[0]
            table.line(f"  {name}, fan-out of 1,000", f"{micros(seconds, 1000):.1f} us/step", seconds / a)


def pickled(table: Table) -> None:
    folder = Path(tempfile.mkdtemp(dir=TMPFS, prefix="rivers-bench-"))
    try:
        for n in (1000, 5000):
            handler = rs.PickleIOHandler(str(folder / f"store{n}"))
            repository = rs.CodeRepository(fan_out(n, handler))
            repository.resolve()
            plain, careful = folder / f"plain{n}", folder / f"careful{n}"
            plain.mkdir()
            careful.mkdir()
            bare, same, ours = best(
                lambda n=n, d=plain: bare_round_trips(d, n),
                lambda n=n, d=careful: round_trip_carefully(d, n),
                repository.materialize,
                rounds=7,
            )
            table.line(f"bare pickle write and read on tmpfs, {n:,}", f"{micros(bare, n):.1f} us", 1.0)
            table.line("  with temp name, fsync, rename, SHA-256", f"{micros(same, n):.1f} us", same / bare)
            ratio = ours / bare
            table.line(
                f"fan-out of {n:,}, PickleIOHandler on tmpfs",
                f"{micros(ours, n):.1f} us/step",
                ratio,
                "<= 2.5 x bare",
                ratio <= 2.5,
            )
    finally:
        shutil.rmtree(folder)


def bare_round_trips(folder: Path, n: int) -> None:
    for i in range(n):
        path = f"{folder}/{i}.pkl"
        with open(path, "wb") as file:
            pickle.dump(i, file, 5)
        with open(path, "rb") as file:
            pickle.load(file)


def round_trip_carefully(folder: Path, n: int) -> None:
    """Measure the promises of PickleIOHandler written out by hand: atomic, durable, checked when read."""
    for i in range(n):
        peers.write_carefully(folder, str(i), i)
        peers.read_carefully(folder, str(i))


def fresh_processes(table: Table) -> None:
    def run(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

    first = "import rivers as rs\n@rs.Asset\ndef one(): return 1\nrs.CodeRepository([one]).materialize()"
    base, ours, result = best(run("import pydantic_settings, msgspec"), run("import rivers"), run(first))
    table.line("fresh process: import pydantic-settings and msgspec", f"{base * 1e3:.0f} ms", 1.0)
    table.line("fresh process: import rivers", f"{ours * 1e3:.0f} ms", ours / base, "<= 1.5 x", ours / base <= 1.5)
    table.line(
        "fresh process: first asset's result", f"{result * 1e3:.0f} ms", result / base, "<= 2 x", result / base <= 2
    )


def planning(table: Table) -> None:
    assets = fan_out(10_000)
    seconds = best(lambda: rs.CodeRepository(assets).plan(), rounds=5)[0]
    table.line("resolve and plan 10,000 assets", f"{seconds * 1e3:.0f} ms", None, "<= 300 ms", seconds <= 0.3)


def memory(table: Table) -> None:
    repository = rs.CodeRepository(fan_out(5000))
    repository.resolve()
    repository.materialize()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = repository.materialize()
    held, peak = (value - before for value in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    assert result.success
    table.line(
        "memory per step of a run of 5,000, peak", f"{peak / 5000:.0f} B", None, "<= 3,072 B", peak / 5000 <= 3072
    )
    table.line("  kept by its RunResult", f"{held / 5000:.0f} B")


def protocol(table: Table) -> None:
    spec = typical_spec()
    data = encode_spec(spec)
    encode, decode = best(
        lambda: [encode_spec(spec) for _ in range(500)], lambda: [decode_spec(data) for _ in range(500)]
    )
    table.line(f"encode a typical spec ({len(data)} bytes)", f"{micros(encode, 500):.1f} us")
    table.line("decode and check it", f"{micros(decode, 500):.1f} us")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--peers", action="store_true", help="measure dask and hamilton, too, where installed")
    arguments.add_argument("--upstream", metavar="PY", help="an interpreter whose environment has rivers 0.6.2 of PyPI")
    given = arguments.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, best of {ROUNDS} rounds unless fewer\n")
    table = Table()
    fan_outs(table, given.peers)
    progress(table)
    if given.upstream:
        peers.upstream(table.line, given.upstream)
    pickled(table)
    fresh_processes(table)
    planning(table)
    memory(table)
    protocol(table)
    parallel(table)


if __name__ == "__main__":
    main()
