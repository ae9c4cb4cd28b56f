"""A runner with a list of modules: what a spec may make it call, and what not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rivers._runner.runner import Runner
from rivers.exceptions import RefResolutionError
from rivers.protocol import ConfiguredRef, Ending, ImportRef, InnerStep, LiteralInput, NodeKind, StepSpec
from rivers.protocol.ref import sign
from rivers.protocol.spec import Output, StoredInput

KEY = bytes(range(32))
RUN_BASH = ImportRef(module="rivers._definitions.bash", qualname="run_bash")

LIBRARY = """
import functools
import rivers as rs

def helper(): return "library"

@rs.Asset
def their_asset(): return "library"

@rs.Task
def their_task(): return "library"

their_command = rs.BashTask("their_command", "echo library")

class Client(rs.Resource):
    def setup(self): print("library")

class Forged(rs.Resource):
    def setup(self): print("library")

Forged.__module__ = "allowed_shop"

def forged(): return "library"

forged.__module__ = "allowed_shop"

class Tool:
    def use(self): return "library"

def loud(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs): return function(*args, **kwargs).upper()
    return wrapper

def bare(function):
    def wrapper(): return function().upper()
    return wrapper
"""

SHOP = """
import functools
import os
import subprocess
from subprocess import Popen
from typing import ClassVar

import allowed_library
import pydantic
import rivers as rs
from allowed_library import Client, Forged, Tool, forged, helper, their_asset, their_command, their_task
from allowed_shop import inner

def order(): return "order"

def add(a, b=1): return a + b

@rs.Asset
def orders(): return "orders"

borrowed = rs.Asset(allowed_library.helper, name="borrowed")
remove = functools.partial(os.remove)

@allowed_library.loud
def loud(): return "loud"

@functools.lru_cache
def cached(): return "cached"

@rs.Asset
@allowed_library.bare
def bare(): return "bare"

class Desk:
    manager: ClassVar = os

    @staticmethod
    def serve(): return "served"

    @classmethod
    def open(cls): return "opened"

    def __call__(self): return "called"

desk = Desk()
tool = Tool()
use = tool.use

class Till(rs.Resource):
    _open: bool = pydantic.PrivateAttr(False)
    coins: int = 1

class Plain(pydantic.BaseModel):
    coins: int = 1

class Model(rs.BaseIOHandler):
    def handle_output(self, context, obj): ...
    def load_input(self, context): return "stored"

@rs.Task
def times(value, factor=2): return value * factor

count = rs.BashTask("count", "echo counted", env={"A": "1"})

@rs.Asset.from_graph
def report(orders, unit="pieces"):
    inline = rs.BashTask("inline", ["sh", "-c", f"echo $N {unit}"], cwd="/")
    return times(inline(N=5), factor=3)

@rs.Asset.from_graph
def broken(orders):
    raise RuntimeError("cannot be composed")
"""


DEFINED = """order orders borrowed loud cached bare Desk.serve Desk.open Desk Till Plain inner.work Model times count
report"""
HELD = (
    # what the module imports: modules, functions, classes, definitions of another module
    "os os.system subprocess.run Popen Popen.communicate allowed_library.helper inner.os.system rs.BashTask",
    "helper their_asset their_task their_command Client Tool Tool.use",
    # what claims to be defined there
    "Forged forged",
    # walks through classes, instances, functions and definitions
    "Desk.manager Desk.manager.system desk desk.serve tool.use use order.__globals__ order.__class__ orders.function",
    "orders.signature.function Desk.__subclasses__ Desk.mro loud.__wrapped__ Desk.open.__func__ remove __builtins__",
    "__loader__ __spec__",
)


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "allowed_library.py").write_text(LIBRARY)
    (tmp_path / "allowed_shop").mkdir()
    (tmp_path / "allowed_shop" / "__init__.py").write_text(SHOP)
    (tmp_path / "allowed_shop" / "inner.py").write_text("import os\ndef work(): return 'work'\n")
    (tmp_path / "allowed_shopping.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.startswith(("allowed_library", "allowed_shop"))]:
        del sys.modules[name]


def runner(*allowed: str) -> Runner:
    return Runner(lambda event: None, allowed=allowed or ("allowed_shop",), pickle_key=KEY)


def shop(qualname: str, module: str = "allowed_shop") -> ImportRef:
    return ImportRef(module=module, qualname=qualname)


def step(**fields: Any) -> StepSpec:
    return StepSpec(**{"run_id": "r", "step": "s", "attempt_id": "a", "function": RUN_BASH, **fields})


def literals(**values: Any) -> tuple[LiteralInput, ...]:
    return tuple(LiteralInput(parameter=name, json=msgspec.json.encode(v).decode()) for name, v in values.items())


def command(text: object, env: object = None, cwd: object = None, **variables: Any) -> tuple[LiteralInput, ...]:
    return literals(command=text, env=env, cwd=cwd, **variables)


def refused(spec: StepSpec, words: str) -> None:
    """Both the look-up before a run and the attempt itself refuse it."""
    with pytest.raises(RefResolutionError, match=words):
        runner().check(spec)
    result = runner().run_step(spec)
    assert Ending.FAILED is result.ending
    assert "RefResolutionError" in result.failure.type  # type: ignore[union-attr]


@pytest.mark.parametrize("name", DEFINED.split())
def test_definitions_of_the_module(name: str) -> None:
    """Assets, tasks, functions and classes that an allowed module defines are found, decorated ones, too."""
    assert runner().look_up(shop(name)) is not None


@pytest.mark.parametrize("name", " ".join(HELD).split())
def test_what_the_module_only_holds(name: str) -> None:
    """A ref that ends at something else than a definition of an allowed module is refused."""
    with pytest.raises(RefResolutionError):
        runner().look_up(shop(name))


@pytest.mark.parametrize("allowed", [("allowed_shop",), ("allowed_shop", "rivers")])
@pytest.mark.parametrize(
    "ref",
    [
        RUN_BASH,
        shop("run_bash", "rivers._definitions.task"),
        shop("subprocess", "rivers._definitions.bash"),
        shop("importlib.import_module", "rivers._runner.refs"),
        shop("BashTask", "rivers"),
        shop("system", "os"),
        shop("order", "allowed_shopping"),
        shop("helper", "allowed_library"),
    ],
)
def test_other_modules(ref: ImportRef, allowed: tuple[str, ...]) -> None:
    """Modules beside the list, also one whose name begins alike, and rivers' own internals are refused."""
    with pytest.raises(RefResolutionError):
        runner(*allowed).look_up(ref)


@pytest.mark.parametrize(
    ("module", "name"),
    [("rivers", "PickleIOHandler"), ("rivers.io_handlers", "PickleIOHandler"), ("rivers", "InMemoryIOHandler")],
)
def test_handlers_of_rivers(module: str, name: str) -> None:
    """The IO handlers that come with rivers need no entry."""
    assert isinstance(runner().look_up(shop(name, module)), type)


def test_default_store() -> None:
    """Neither does the store of values that have no IO handler, nor the tasks of mapping over an upstream."""
    from rivers._definitions.graph import _EACH, each
    from rivers._io.shared.default_store import DefaultStore

    for found in (DefaultStore, each):
        ref = shop(found.__qualname__, found.__module__)
        assert found is runner().look_up(ref)
    assert _EACH is runner().look_up(shop("_EACH", each.__module__))


@pytest.mark.parametrize(
    ("name", "allowed"), [("Till", True), ("Model", True), ("Plain", False), ("Client", False), ("Forged", False)]
)
def test_configured_objects(name: str, allowed: bool) -> None:
    """Of a spec's fields only IO handlers and resources of an allowed module are built."""
    ref = ConfiguredRef(cls=shop(name), json="{}")
    if allowed:
        assert name == type(runner().look_up(ref)).__name__
    else:
        with pytest.raises(RefResolutionError):
            runner().look_up(ref)


def test_pickles() -> None:
    """A pickle names whatever it likes, so none is loaded where modules are limited."""
    with pytest.raises(RefResolutionError, match="only what allowed modules define"):
        runner().look_up(sign(b"not even read", KEY))


def test_handlers_and_inner_steps() -> None:
    """The list holds for every ref of a spec: functions, IO handlers of inputs and outputs, inner steps."""
    foreign = ConfiguredRef(cls=shop("Client"), json="{}")
    outputs = (Output(name="s", key="s", io_handler=foreign),)
    stored = (StoredInput(parameter="a", key="k", io_handler=foreign),)
    inner = (InnerStep(key="i", node=NodeKind.TASK, function=shop("os.system")),)
    specs = [
        step(function=shop("order"), outputs=outputs),
        step(function=shop("add"), inputs=stored),
        step(function=shop("report"), node=NodeKind.GRAPH, inner=inner),
    ]
    for spec in specs:
        assert Ending.FAILED is runner().run_step(spec).ending


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": command("echo counted", {"A": "1"}), "function": shop("count")},
        {"inputs": command(["sh", "-c", "echo $N pieces"], None, "/", N=5), "graph": shop("report")},
    ],
)
def test_commands_of_definitions(fields: dict[str, Any]) -> None:
    """A command runs if a bash task at module scope or the composition of a graph asset has it, to the letter."""
    result = runner().run_step(step(node=NodeKind.BASH, **fields))
    assert Ending.SUCCEEDED is result.ending, result.failure


STORED = StoredInput(parameter="command", key="k", io_handler=ConfiguredRef(cls=shop("Model"), json="{}"))
REPORT = ["sh", "-c", "echo $N pieces"]


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": command("id")},
        {"inputs": command("id"), "function": shop("count")},
        {"inputs": command("echo counted"), "function": shop("count")},
        {"inputs": command("echo counted", {"A": "1"}, "/"), "function": shop("count")},
        {"inputs": command("echo counted", {"A": "1", "LD_PRELOAD": "x.so"}), "function": shop("count")},
        {"inputs": command("echo counted", {"A": "1"}, LD_PRELOAD="x.so"), "function": shop("count")},
        {"inputs": command("echo counted", {"A": "1"}) + command("id"), "function": shop("count")},
        {"inputs": (STORED, *literals(env={"A": "1"}, cwd=None)), "function": shop("count")},
        {"inputs": command("echo library"), "function": shop("their_command")},
        {"inputs": command("id", None, "/", N=5), "graph": shop("report")},
        {"inputs": command(REPORT, None, "/", N=6), "graph": shop("report")},
        {"inputs": command(REPORT, None, "/", N=5, PATH="/tmp"), "graph": shop("report")},
        {"inputs": command("id"), "graph": shop("broken")},
        {"inputs": command("id"), "graph": shop("orders")},
        {"inputs": command("id"), "graph": shop("their_asset")},
    ],
)
def test_other_commands(fields: dict[str, Any]) -> None:
    """A command, a variable or a folder that no definition has is refused, wherever it comes from."""
    refused(step(node=NodeKind.BASH, **fields), ".")


def inner(node: NodeKind, function: ImportRef, inputs: tuple[LiteralInput, ...]) -> StepSpec:
    within = InnerStep(key="report/i", node=node, function=function, inputs=inputs)
    return step(node=NodeKind.GRAPH, function=shop("report"), inner=(within,))


def test_commands_in_a_fused_graph() -> None:
    """Inside a graph asset that runs as one step, commands are those of its composition, too."""
    result = runner().run_step(inner(NodeKind.BASH, RUN_BASH, command(REPORT, None, "/", N=5)))
    assert Ending.SUCCEEDED is result.ending, result.failure
    refused(inner(NodeKind.BASH, RUN_BASH, command("id")), "a command that no definition in allowed_shop has")


@pytest.mark.parametrize(
    ("function", "inputs", "graph", "allowed"),
    [
        ("times", literals(factor=3), "report", True),
        ("times", literals(factor=4), "report", False),
        ("times", literals(value=3), "report", False),
        ("order", literals(factor=3), "report", False),
        ("times", literals(factor=3), None, False),
        ("times", literals(factor=3), "their_asset", False),
    ],
)
def test_constants(function: str, inputs: tuple[LiteralInput, ...], graph: str | None, allowed: bool) -> None:
    """A constant is one that the graph asset's composition gives this task under this name."""
    spec = step(node=NodeKind.TASK, function=shop(function), inputs=inputs, graph=graph and shop(graph))
    fused = inner(NodeKind.TASK, shop(function), inputs)
    if allowed:
        runner().check(spec)
        runner().check(fused)
    else:
        refused(spec, ".")
        if graph == "report":
            refused(fused, "a constant that no definition in allowed_shop has")


def test_no_list() -> None:
    """Without a list any importable module may be named, as in process."""
    free = Runner(lambda event: None)
    assert sys.modules["os"].system is free.look_up(shop("os.system"))  # type: ignore[attr-defined]
    assert Ending.SUCCEEDED is free.run_step(step(node=NodeKind.BASH, inputs=command("true"))).ending
