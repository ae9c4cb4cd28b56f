"""Measure runs on a real Slurm: 200 steps on pilot jobs against the ideal, and a fan-out of 100 no-ops.

    python bench/slurm.py [--pilots 2] [--seconds 1] [--steps 200]

Needs `sbatch` on the PATH and a folder that this machine and the nodes share (`--folder`, by default a temporary one).
The ideal is steps · seconds / pilots; what it leaves out is the queue, the start of the pilots and all of rivers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import rivers as rs
from rivers_executor_slurm import SlurmExecutor

sys.path.insert(0, str(Path(__file__).parent))

import slurm_steps_bench as steps

RATIO, NO_OPS = 1.15, 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pilots", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--memory", default="400Mi")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        pilots = SlurmExecutor(
            memory=options.memory,
            folder=Path(folder) / "jobs",
            worker_reuse="run",
            max_jobs=options.pilots,
            env={"RIVERS_BENCH_SECONDS": str(options.seconds)},
        )
        store = rs.PickleIOHandler(Path(folder) / "values", shared=True, fsync=False)
        naps = [rs.Asset(steps.nap, name=f"nap{n}", io_handler=store) for n in range(options.steps)]
        took = measure(naps, pilots)
        ideal = options.steps * options.seconds / options.pilots
        ratio = took / ideal
        what = f"{options.steps} steps of {options.seconds} s on {options.pilots} pilots"
        print(f"{what}: {took:.1f} s, {ratio:.3f} × ideal")
        fan_out = rs.Asset.from_graph(steps.fan_out, name="fan_out", io_handler=store)
        no_ops = measure([fan_out], pilots)
        print(f"fan-out of {steps.WIDTH} no-ops: {no_ops:.1f} s")
    return int(ratio > RATIO or no_ops > NO_OPS)


def measure(assets: list[rs.Asset], executor: SlurmExecutor) -> float:
    """Return the seconds of a run, from its submission to its end, jobs removed."""
    with rs.CodeRepository(assets=assets, default_executor=executor) as repository:
        begun = time.perf_counter()
        repository.materialize()
        return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
