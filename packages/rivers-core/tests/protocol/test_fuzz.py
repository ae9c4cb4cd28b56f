"""A short form of `nox -s fuzz`: hostile bytes raise SpecDecodeError or a child of it, and nothing else."""

from __future__ import annotations

import importlib.util
import random
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType

import pytest

from rivers.exceptions import SpecDecodeError

SCRIPT = Path(__file__).resolve().parents[4] / "fuzz" / "fuzz_protocol.py"


def load() -> ModuleType:
    name = "rivers_fuzz_protocol"
    specification = importlib.util.spec_from_file_location(name, SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


fuzz = load()
SEEDS = fuzz.golden()
BOMBS = {name: (codec, data) for name, codec, data in fuzz.bombs()}


def judged(mutants: list[tuple[tuple[str, str], bytes]]) -> list[str]:
    """Return the violations of the decoders, without those of time, which `nox -s fuzz` measures."""
    tally = fuzz.Tally(milliseconds=float("inf"))
    for codec, data in mutants:
        tally.judge("mutant", codec, data)
    assert len(mutants) == tally.accepted + sum(tally.refused.values()) + len(tally.violations)
    return list(tally.violations)


@pytest.mark.parametrize("seed", range(4))
def test_byte_mutants(seed: int) -> None:
    """A few changed bytes are a typed error or another good value, in both codecs; nothing is imported."""
    rng = random.Random(seed)
    chosen = [rng.choice(SEEDS) for _ in range(1_500)]
    modules = set(sys.modules)
    assert [] == judged([(codec, fuzz.mutate_bytes(rng, data, SEEDS)) for codec, data in chosen])
    assert modules == set(sys.modules)


@pytest.mark.parametrize("seed", range(4))
def test_structure_mutants(seed: int) -> None:
    """A few changed values of the tree are a typed error or another good value, in both codecs."""
    mutants = fuzz.structure_mutants(random.Random(seed), SEEDS)
    assert [] == judged([next(mutants) for _ in range(400)])


@pytest.mark.parametrize("name", list(BOMBS))
def test_bombs(name: str) -> None:
    """A megabyte made to cost memory costs less than 50 MB of Python's, and is a typed error or a good value."""
    codec, data = BOMBS[name]
    assert len(data) <= fuzz.LIMITS.size
    tracemalloc.start()
    try:
        fuzz.CODECS[codec][0](data)
    except SpecDecodeError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 50e6


def test_violations_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge reports a decoder that raises another error, and one whose value does not come back."""

    def broken(data: bytes) -> object:
        raise UnicodeDecodeError("utf-8", data, 0, 1, "invalid")

    monkeypatch.setitem(fuzz.CODECS, ("msgpack", "spec"), (broken, lambda value: b""))
    assert ["UnicodeDecodeError" in text for text in judged([(("msgpack", "spec"), b"\xff")])] == [True]
    values = iter((1, 2))
    monkeypatch.setitem(fuzz.CODECS, ("msgpack", "spec"), (lambda data: next(values), lambda value: b""))
    tally = fuzz.Tally()
    tally.judge("changed", ("msgpack", "spec"), b"")
    assert "came back as another value" in tally.violations[0]
