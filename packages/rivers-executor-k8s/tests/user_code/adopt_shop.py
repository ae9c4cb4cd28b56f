"""A repository whose controller runs in a pod and is evicted there: `rivers run adopt_shop --durable`."""

from __future__ import annotations

import os
import time

import rivers as rs

PER_SECOND = 5
ENV = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "SHOP_"))}


@rs.Asset
def quick() -> int:
    return 1


@rs.Asset
def slow(context: rs.AssetExecutionContext, quick: int) -> int:
    """A line every fifth of a second: whoever reads on knows which ones are missing."""
    lines = int(PER_SECOND * float(os.environ.get("SHOP_SECONDS", "30")))
    for i in range(lines):
        print(f"line {i}", flush=True)
        time.sleep(1 / PER_SECOND)
    context.add_output_metadata({"lines": lines})
    return lines


@rs.Asset
def total(slow: int) -> int:
    return slow + 1


repo = rs.CodeRepository(
    [quick, slow, total],
    default_executor=rs.Executor.kubernetes(
        os.environ.get("SHOP_IMAGE"),
        namespace=os.environ.get("SHOP_NAMESPACE"),
        image_pull_policy="IfNotPresent",
        worker_cpu="100m",
        worker_memory="200Mi",
        orphan_ttl=float(os.environ.get("SHOP_ORPHAN_TTL", "300")),
        worker_reuse="run" if os.environ.get("SHOP_WARM") else "never",
        env=ENV,
    ),
    default_io_handler=rs.PickleIOHandler(os.environ.get("SHOP_STORE", "values")),
)
