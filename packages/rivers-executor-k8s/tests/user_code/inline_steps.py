"""Steps without an IO handler, whose values are small."""

from __future__ import annotations

import os
from typing import Any

import rivers as rs


@rs.Asset
def shops() -> list[dict[str, Any]]:
    return [{"name": name, "sales": (3, 4)} for name in ("north", "south")]


@rs.Task
def counted(shop: dict[str, Any]) -> dict[str, Any]:
    return {**shop, "total": sum(shop["sales"])}


@rs.Task
def summed(shops: list[dict[str, Any]]) -> dict[str, int]:
    return {shop["name"]: shop["total"] for shop in shops}


@rs.Asset.from_graph
def totals(shops: Any) -> Any:
    return summed(shops.map(counted).collect())


@rs.Asset.from_multi(output_defs=[rs.AssetDef("low"), rs.AssetDef("high")])
def parted(totals: dict[str, int]) -> dict[str, Any]:
    return {"low": min(totals.values()), "high": {*totals}}


@rs.Asset(metadata={"rivers/executor": "parallel"})
def beside(low: int, high: set[str]) -> tuple[int, list[str]]:
    return low, sorted(high)


@rs.Asset(metadata={"rivers/executor": "in_process"})
def here(low: int) -> int:
    return low + 1


@rs.Asset
def both(beside: tuple[int, list[str]], here: int) -> list[Any]:
    return [beside, here]


@rs.Asset
def secret() -> dict[str, str]:
    return {"token": os.environ["VAULT_TOKEN"]}


@rs.Asset
def uses_secret(secret: dict[str, str]) -> int:
    return len(secret["token"])
