"""Following refs: what a worker may import, and which pickles it may load."""

from __future__ import annotations

import pickle
from pathlib import Path

import msgspec
import pytest

from rivers._runner.refs import Resolver
from rivers.exceptions import RefResolutionError
from rivers.protocol import ImportRef
from rivers.protocol.ref import is_signed, sign

KEY = bytes(range(32))


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("change", [{"payload": b"other"}, {"sha256": bytes(32)}, {"hmac": bytes(32)}])
def test_a_signature_holds_for_one_payload_and_one_key(change: dict[str, bytes]) -> None:
    """A ref is signed as long as payload, digest and signature belong together and the key is the signer's."""
    ref = sign(b"payload", KEY)

    assert is_signed(ref, KEY)
    assert not is_signed(ref, bytes(32))
    assert not is_signed(msgspec.structs.replace(ref, **change), KEY)


@pytest.mark.parametrize(("worker_key", "loaded"), [(b"", False), (bytes(32), False), (KEY, True)])
def test_only_signed_pickles_are_loaded(tmp_path: Path, worker_key: bytes, loaded: bool) -> None:
    """A pickle is loaded with the run's key only; without one, or with another, not a byte of it is."""
    canary = tmp_path / "canary"
    ref = sign(pickle.dumps(Canary(canary)), KEY)
    resolver = Resolver(pickle_key=worker_key)

    if loaded:
        resolver.resolve(ref)
    else:
        with pytest.raises(RefResolutionError):
            resolver.resolve(ref)
    assert loaded == canary.exists()


@pytest.mark.parametrize(
    ("module", "name", "allowed"),
    [
        ("json", "loads", True),
        ("json.decoder", "JSONDecoder", True),
        ("jsonx", "loads", False),
        ("os", "walk", False),
    ],
)
def test_modules_outside_the_allowed_are_not_imported(module: str, name: str, allowed: bool) -> None:
    """`allowed` is a module and what is below it, not whatever begins with the same letters."""
    resolver = Resolver(allowed=("json",))
    ref = ImportRef(module=module, qualname=name)

    if allowed:
        assert name == resolver.resolve(ref).__name__
    else:
        with pytest.raises(RefResolutionError, match="outside what this worker may import: json"):
            resolver.resolve(ref)
