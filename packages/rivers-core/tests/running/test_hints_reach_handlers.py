"""IO handlers get the types that a body declares."""

from __future__ import annotations

from typing import Any

from pydantic import PrivateAttr

import rivers as rs


class Noting(rs.BaseIOHandler):
    _hints: dict[str, Any] = PrivateAttr(default_factory=dict)
    _values: dict[str, Any] = PrivateAttr(default_factory=dict)

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        self._hints[f"out {context.asset_name}"] = context.type_hint
        self._values[context.asset_name] = obj

    def load_input(self, context: rs.InputContext) -> Any:
        self._hints[f"in {context.asset_name}"] = context.type_hint
        return self._values[context.asset_name]


def test_hints_reach_handlers() -> None:
    """`type_hint` is the return hint or the output's own hint when storing, the parameter's when loading."""
    handler = Noting()

    @rs.Asset(io_handler=handler)
    def number() -> int:
        return 1

    @rs.Asset.from_multi(output_defs=[rs.AssetDef("text", type_hint=str), rs.AssetDef("any")], io_handler=handler)
    def pair(number: float) -> tuple[str, int]:
        return "a", 2

    rs.CodeRepository([number, pair]).materialize()

    assert {"out number": int, "in number": float, "out text": str, "out any": None} == handler._hints
