"""Pipelines to measure: no-op bodies in common shapes."""

from __future__ import annotations

import rivers as rs
from rivers.protocol import ConfiguredRef, ImportRef, Output, StepSpec, StoredInput


def fan_out(
    n: int, io_handler: rs.BaseIOHandler | None = None, *, skip_unchanged: bool | None = None
) -> list[rs.Asset]:
    """Return one source and n assets that each take it; `skip_unchanged` is that of the n."""

    @rs.Asset(io_handler=io_handler)
    def source() -> int:
        return 1

    def one(i: int) -> rs.Asset:
        def body(source: int) -> int:
            return source

        return rs.Asset(body, name=f"asset_{i}", io_handler=io_handler, skip_unchanged=skip_unchanged)

    return [source, *(one(i) for i in range(n))]


def typical_spec() -> StepSpec:
    """Return a spec with three inputs and one output on an object store, as a pod would get it."""
    handler = ConfiguredRef(
        cls=ImportRef(module="rivers._io.pickle", qualname="PickleIOHandler"),
        json='{"store":"s3://bucket/prefix","prefix":"values"}',
    )
    return StepSpec(
        run_id="3f2b8f0c6d1e4b7a9c5d2e1f0a9b8c7d",
        step="daily_orders",
        attempt_id="3f2b8f0c6d1e4b7a9c5d2e1f0a9b8c7d-17-0.42",
        function=ImportRef(module="shop.orders", qualname="daily_orders"),
        inputs=tuple(StoredInput(parameter=p, key=p, io_handler=handler) for p in ("orders", "customers", "prices")),
        outputs=(Output(name="daily_orders", key="daily_orders", io_handler=handler),),
        metadata={"owner": "shop"},
        tags=("daily",),
        run_tags={"trigger": "cron"},
        timeout=3600.0,
    )
