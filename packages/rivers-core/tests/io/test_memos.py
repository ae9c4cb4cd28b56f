"""Memos are stored with their values, in one act, by every handler that commits atomically."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from rivers._io.memo import short_version
from rivers._io.shared.default_store import DefaultStore
from rivers.io_handlers import (
    AtomicIOHandler,
    BaseIOHandler,
    InMemoryIOHandler,
    InputContext,
    Memo,
    OutputContext,
    PickleIOHandler,
)


def _out(key: str, attempt: str = "a1", **settings: str | None) -> OutputContext:
    step = settings.pop("step", key)
    assert step is not None
    return OutputContext(key, run_id="run1", step=step, attempt_id=attempt, **{"fingerprint": "print", **settings})


def _memo(handler: BaseIOHandler, key: str) -> Memo:
    memo = handler.read_memo(key)
    assert memo is not None
    return memo


class TestEveryHandler:
    def test_memo(self, handler: AtomicIOHandler) -> None:
        """A value has the fingerprint of its run and the attempt that stored it, and is loaded as ever."""
        handler.handle_output(_out("a/b"), [1])
        handler.end_run("run1")

        memo = _memo(handler, "a/b")
        assert ("a1", "print") == (memo.attempt_id, memo.fingerprint)
        assert memo.version
        assert [1] == handler.load_input(InputContext("a/b"))

    def test_nothing_is_stored(self, handler: AtomicIOHandler) -> None:
        """A key without a value has no memo."""
        assert handler.read_memo("none") is None

    def test_registered_version(self, handler: AtomicIOHandler) -> None:
        """A version that the body has registered is the value's version, a long one as a hash."""
        handler.handle_output(_out("short", data_version="v1"), 1)
        handler.handle_output(_out("long", data_version="v" * 1000), 1)

        assert "v1" == _memo(handler, "short").version
        assert short_version("v" * 1000) == _memo(handler, "long").version

    def test_a_run_that_wants_none(self, handler: AtomicIOHandler) -> None:
        """A value that is stored without a fingerprint does not keep the memo of the last one."""
        handler.handle_output(_out("k"), 1)
        handler.handle_output(OutputContext("k", run_id="run2", step="k", attempt_id="a2"), 2)

        memo = handler.read_memo("k")
        assert memo is None or memo.fingerprint is None

    def test_several_outputs(self, handler: AtomicIOHandler) -> None:
        """The memos of several outputs appear with their commit, and not before."""
        for key in ("x", "y"):
            handler.stage(_out(key, step="s"), key)
        assert [None, None] == [handler.read_memo(key) for key in ("x", "y")]

        handler.commit("run1", "s", "a1", ("x", "y"))

        assert ["print", "print"] == [_memo(handler, key).fingerprint for key in ("x", "y")]

    def test_a_loser_leaves_no_memo(self, handler: AtomicIOHandler) -> None:
        """The memo is that of the attempt that won, whatever a later one has staged."""
        handler.handle_output(_out("k"), 1)
        with pytest.raises(Exception, match="too late"):
            handler.handle_output(_out("k", "a2", fingerprint="other"), 2)

        assert ("a1", "print") == (_memo(handler, "k").attempt_id, _memo(handler, "k").fingerprint)

    def test_no_value(self, handler: AtomicIOHandler) -> None:
        """None has the attempt as its version: the step has made its data elsewhere."""
        handler.handle_output(_out("k"), None)

        assert "a1" == _memo(handler, "k").version


def test_equal_values_have_one_version(tmp_path: Path) -> None:
    """The version of a pickle is that of its content, whoever stores it."""
    handler = PickleIOHandler(tmp_path)
    for key, attempt, value in (("one", "a1", [1, 2]), ("two", "a2", [1, 2]), ("three", "a3", [1, 3])):
        handler.handle_output(_out(key, attempt), value)

    one, two, three = (_memo(handler, key).version for key in ("one", "two", "three"))
    assert one == two != three


def test_a_stored_value_is_a_plain_pickle(tmp_path: Path) -> None:
    """`pickle.load` reads a value with a memo."""
    PickleIOHandler(tmp_path).handle_output(_out("k"), [1])

    with (tmp_path / "k.pkl").open("rb") as file:
        assert [1] == pickle.load(file)


def test_a_damaged_value_has_no_memo(tmp_path: Path) -> None:
    """A file that is cut short has no memo, so its step runs again."""
    handler = PickleIOHandler(tmp_path)
    handler.handle_output(_out("k"), [1])
    path = tmp_path / "k.pkl"
    path.write_bytes(path.read_bytes()[:-5])

    assert handler.read_memo("k") is None


def test_a_handler_without_memos() -> None:
    """A handler that does not say otherwise keeps none."""

    class Plain(BaseIOHandler):
        def handle_output(self, context: OutputContext, obj: object) -> None: ...

        def load_input(self, context: InputContext) -> None: ...

    assert Plain().read_memo("k") is None


def test_a_value_in_memory_keeps_its_memo_when_it_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default store hands the memo over with the value when other processes need it."""
    monkeypatch.setenv("RIVERS_DEFAULT_STORE", str(tmp_path))
    store = DefaultStore()
    store.handle_output(_out("k"), [1])
    before = _memo(store, "k")
    store.share("run2")
    store.hand_over("k")

    assert before == _memo(store, "k") == _memo(DefaultStore(folder=store.folder), "k")
    store.close()


def test_memory_has_the_attempt_for_a_version() -> None:
    """The content of an object in memory is not looked at."""
    handler = InMemoryIOHandler()
    handler.handle_output(_out("k"), [1])

    assert Memo("a1", "a1", "print") == handler.read_memo("k")
