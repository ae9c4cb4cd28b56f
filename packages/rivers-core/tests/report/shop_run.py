"""A run of a small shop's pipeline, for the pictures of the documentation."""

from __future__ import annotations

import random

import msgspec
from synthetic import Simulation, header_of

from rivers._record.header import StepHeader
from rivers._record.view import RunView

STEPS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    # step: its group, its executor, what it depends on
    "orders": ("sources", 1, ()),
    "customers": ("sources", 1, ()),
    "products": ("sources", 1, ()),
    "exchange_rates": ("sources", 0, ()),
    "orders_clean": ("clean", 1, ("orders", "exchange_rates")),
    "customers_clean": ("clean", 1, ("customers",)),
    "products_clean": ("clean", 1, ("products",)),
    "baskets": ("features", 1, ("orders_clean", "products_clean")),
    "lifetime_value": ("features", 1, ("orders_clean", "customers_clean")),
    "regions/split": ("features", 1, ("customers_clean",)),
    "regions/fit": ("features", 1, ("regions/split",)),
    "regions/merge": ("features", 1, ("regions/fit",)),
    "churn_model": ("models", 2, ("lifetime_value", "regions/merge")),
    "recommender": ("models", 2, ("baskets",)),
    "dashboard": ("reports", 0, ("churn_model", "lifetime_value")),
    "newsletter": ("reports", 1, ("recommender", "customers_clean")),
    "prices": ("reports", 1, ("products_clean", "exchange_rates")),
}


def shop_view(seed: int = 39) -> RunView:
    """Return the view of the run, in which one step fails."""
    names = list(STEPS)
    levels: dict[str, int] = {}
    steps: list[StepHeader] = []
    for number, (name, (group, executor, deps)) in enumerate(STEPS.items()):
        levels[name] = max((levels[dep] + 1 for dep in deps), default=0)
        mapped = names.index("regions/split") if name == "regions/fit" else None
        steps.append(
            StepHeader(
                key=name,
                executor=executor,
                level=levels[name],
                deps=tuple(map(names.index, deps)),
                mapped_over=mapped,
                group=group,
                location=f"shop/assets/{group}.py:{10 + 7 * number}",
                max_attempts=3,
            )
        )
    chance = random.Random(seed)
    header = msgspec.structs.replace(header_of(2, 0, chance), steps=tuple(steps))
    view = RunView(header)
    for event in Simulation(header, 12, 0.07, chance).run():
        view.apply(event)
    return view
