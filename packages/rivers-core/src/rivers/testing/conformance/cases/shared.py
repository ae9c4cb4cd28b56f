"""Cases of what steps share: resources, IO handlers, values of other runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import rivers as rs
from rivers.testing.conformance.cases.case import Case, Fails
from rivers.testing.conformance.cases.faults import Unprintable, base, sibling

__all__ = ["CASES"]

# ── resources ──


class Greeter(rs.Resource):
    word: str = "hello"
    name: str = "nobody"
    _ready: bool = False

    def setup(self) -> None:
        self._ready = True

    def greet(self) -> str:
        assert self._ready
        return f"{self.word} {self.name}"


class Broken(rs.Resource):
    def setup(self) -> None:
        raise ConnectionError("no server")


@rs.Asset
def greets(greeter: Greeter) -> str:
    return greeter.greet()


@rs.Asset
def needs_broken(broken: Broken) -> int:
    return 1


# ── IO handlers ──


class TextFiles(rs.BaseIOHandler):
    folder: str

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        path = Path(self.folder) / f"{context.asset_name}.txt"
        path.write_text(str(obj))
        context.add_output_metadata({"size": len(str(obj))})
        context.register_data_version(f"v{context.attempt}")

    def load_input(self, context: rs.InputContext) -> Any:
        return (Path(self.folder) / f"{context.asset_name}.txt").read_text()


class Loud(rs.BaseIOHandler):
    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        raise Unprintable

    def load_input(self, context: rs.InputContext) -> Any:
        return f"{context.asset_name} for {context.downstream_asset} as {context.type_hint}"


outside = rs.Asset.external(io_handler=Loud(), name="outside")


@rs.Asset(io_handler="files")
def filed() -> str:
    return "text"


@rs.Asset
def reads_file(filed: str) -> str:
    return filed.upper()


@rs.Asset(deps=[rs.AssetDef.input("base", io_handler=Loud())])
def overridden(base: int) -> Any:
    return base


@rs.Asset
def reads_outside(outside: str) -> str:
    return outside


@rs.Asset(io_handler=Loud())
def cannot_store() -> int:
    return 1


@rs.Asset
def process_id() -> int:
    return os.getpid()


def greeting(name: str, greeter: Greeter, value: str) -> Case:
    return Case(
        name=name,
        parts={"assets": [greets], "resources": {"greeter": greeter}},
        states={"greets": "succeeded"},
        values={"greets": value},
    )


def files(folder: Path) -> Case:
    """The case that needs a folder: a handler of the user's own, found by the name of a resource."""
    return Case(
        name="own io handler by resource name",
        parts={"assets": [filed, reads_file], "resources": {"files": TextFiles(folder=str(folder))}},
        states={"filed": "succeeded", "reads_file": "succeeded"},
        values={"filed": "text", "reads_file": "TEXT"},
        metadata={"filed": {"size": 4}},
        versions={"filed": "v1"},
    )


CASES = [
    greeting("resource", Greeter(name="you"), "hello you"),
    Case(
        name="resource that cannot be set up",
        parts={"assets": [needs_broken, base], "resources": {"broken": Broken()}},
        states={"needs_broken": "failed", "base": "succeeded"},
        failures={"needs_broken": Fails("infrastructure", "ConnectionError", "no server")},
    ),
    Case(
        name="input by a handler of its own",
        parts={"assets": [base, overridden]},
        states={"base": "succeeded", "overridden": "succeeded"},
        values={"overridden": "base for overridden as <class 'int'>"},
    ),
    Case(
        name="external asset",
        parts={"assets": [outside, reads_outside]},
        states={"reads_outside": "succeeded"},
        values={"reads_outside": "outside for reads_outside as <class 'str'>"},
    ),
    Case(
        name="io handler that cannot store",
        parts={"assets": [cannot_store]},
        states={"cannot_store": "failed"},
        failures={"cannot_store": Fails("infrastructure", "faults.Unprintable", "text could not be made")},
    ),
    Case(
        name="selection loads what an earlier run stored",
        parts={"assets": [base, sibling]},
        first={"selection": ["base"]},
        run={"selection": ["sibling"]},
        states={"sibling": "succeeded"},
        values={"sibling": 2},
    ),
    Case(
        name="include_upstream",
        parts={"assets": [base, sibling, process_id]},
        run={"selection": [sibling], "include_upstream": True},
        states={"base": "succeeded", "sibling": "succeeded"},
    ),
    Case(
        name="upstream never stored",
        parts={"assets": [base, sibling]},
        run={"selection": ["sibling"]},
        states={"sibling": "failed"},
        failures={"sibling": Fails("infrastructure", "ValueNotFoundError", "'base'")},
    ),
    Case(
        name="nothing selected",
        parts={"assets": [base]},
        run={"selection": []},
        states={},
    ),
]
