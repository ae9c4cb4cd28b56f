"""Promises of every handler of rivers on every store."""

from __future__ import annotations

import os
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rivers._io.files.sweep import MOST_MARKS
from rivers.exceptions import ConfigurationError, InputLoadError, OutputCommitError
from rivers.io_handlers import AtomicIOHandler, InMemoryIOHandler, OutputContext, PickleIOHandler, Reach

Out = Callable[..., OutputContext]
Load = Callable[..., Any]


class TestEveryStore:
    @pytest.mark.parametrize("value", [None, 0, {"a": [1, (2, b"x")]}, "ü", b"x" * 65536, b"y" * 9_000_000])
    def test_round_trip(self, handler: AtomicIOHandler, out: Out, load: Load, value: object) -> None:
        """Stored values are loaded, with and without the run, from nothing to nine megabytes."""
        handler.handle_output(out("a/b[c]"), value)

        assert value == load(handler, "a/b[c]", "run1")
        assert value == load(handler, "a/b[c]")

    def test_missing(self, handler: AtomicIOHandler, load: Load) -> None:
        """A missing value raises an InputLoadError that may be retried and names the asset and the remedy."""
        with pytest.raises(InputLoadError, match="'absent', an input of 'reader'") as caught:
            load(handler, "absent", "run1")

        assert caught.value.retryable
        assert "materialize 'absent' first" in str(caught.value)

    def test_second_attempt_loses(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """The first attempt of a step wins; another is refused for good, and changes nothing."""
        handler.handle_output(out("k", attempt_id="a1"), "first")

        with pytest.raises(OutputCommitError, match=r"'a2' comes too late: attempt 'a1'") as caught:
            handler.handle_output(out("k", attempt_id="a2"), "second")

        assert not caught.value.retryable
        assert "first" == load(handler, "k", "run1") == load(handler, "k")
        assert "a1" == handler.committed("run1", "k")

    def test_winner_again(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """An attempt that has won may store again, which changes nothing."""
        handler.handle_output(out("k"), "first")

        handler.handle_output(out("k"), "again")

        assert "first" == load(handler, "k", "run1") == load(handler, "k")

    def test_runs_apart(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """A run reads its own version; readers without one, and runs that have not written it, read the latest."""
        handler.handle_output(out("k", "run1"), 1)
        handler.handle_output(out("k", "run2"), 2)

        assert [1, 2, 2, 2] == [load(handler, "k", run) for run in ("run1", "run2", "run3", None)]

    def test_staged_is_invisible(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """A staged value is invisible until it is committed, then visible to all."""
        handler.stage(out("x", step="multi"), 1)
        handler.stage(out("y", step="multi"), 2)

        with pytest.raises(InputLoadError):
            load(handler, "x", "run1")
        assert handler.committed("run1", "multi") is None

        handler.commit("run1", "multi", "a1", ("x", "y"))

        assert [1, 2, 1, 2] == [load(handler, key, run) for run in ("run1", None) for key in ("x", "y")]
        assert "a1" == handler.committed("run1", "multi")

    def test_commit_several_first_wins(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """Of two attempts that staged several outputs, the one that commits first has all of them."""
        for attempt in ("a1", "a2"):
            for key in ("x", "y"):
                handler.stage(out(key, attempt_id=attempt, step="multi"), attempt)
        handler.commit("run1", "multi", "a2", ("x", "y"))

        with pytest.raises(OutputCommitError, match="too late"):
            handler.commit("run1", "multi", "a1", ("x", "y"))

        assert ["a2", "a2"] == [load(handler, key, "run1") for key in ("x", "y")]
        assert ["a2", "a2"] == [load(handler, key) for key in ("x", "y")]
        assert "a2" == handler.committed("run1", "multi")

    def test_staged_single(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """One output that is staged and then committed competes with one that is stored at once."""
        handler.stage(out("k", attempt_id="a1"), 1)
        handler.commit("run1", "k", "a1", ("k",))

        with pytest.raises(OutputCommitError, match="too late"):
            handler.handle_output(out("k", attempt_id="a2"), 2)

        assert 1 == load(handler, "k", "run1") == load(handler, "k")

    def test_commit_again(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """A commit whose answer was lost may be repeated."""
        handler.stage(out("x", step="multi"), 1)
        handler.commit("run1", "multi", "a1", ("x",))

        handler.commit("run1", "multi", "a1", ("x",))

        assert 1 == load(handler, "x", "run1")

    def test_no_outputs(self, handler: AtomicIOHandler) -> None:
        """A step with no output at all (an empty fan-out) commits, too, and only once."""
        handler.commit("run1", "fan", "a1", ())

        assert "a1" == handler.committed("run1", "fan")
        with pytest.raises(OutputCommitError, match="too late"):
            handler.commit("run1", "fan", "a2", ())

    def test_output_named_otherwise(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """A step's one output under another name than the step's is committed for the step."""
        handler.handle_output(out("part", step="whole"), 1)

        assert "a1" == handler.committed("run1", "whole")
        with pytest.raises(OutputCommitError, match="too late"):
            handler.handle_output(out("part", step="whole", attempt_id="a2"), 2)
        assert 1 == load(handler, "part", "run1")

    def test_discard(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """A discarded value cannot be committed and stays invisible; discarding a missing one is no error."""
        handler.stage(out("x", step="multi"), 1)
        handler.discard("run1", "multi", "a1", ("x", "y"))
        handler.discard("run1", "multi", "a1", ("x", "y"))

        with pytest.raises(InputLoadError):
            load(handler, "x", "run1")

    def test_discard_after_commit(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """Discarding takes nothing back that was committed."""
        handler.stage(out("x", step="multi"), 1)
        handler.commit("run1", "multi", "a1", ("x",))
        handler.discard("run1", "multi", "a1", ("x",))

        assert 1 == load(handler, "x", "run1") == load(handler, "x")

    def test_second_output_fails(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """When the second output cannot be stored, the first is not visible either."""
        handler.stage(out("x", step="multi"), 1)
        if not isinstance(handler, InMemoryIOHandler):
            with pytest.raises(OutputCommitError, match=r"the value of 'y', a _thread.lock, cannot be pickled"):
                handler.stage(out("y", step="multi"), threading.Lock())
        handler.discard("run1", "multi", "a1", ("x", "y"))

        assert handler.committed("run1", "multi") is None
        for key in ("x", "y"):
            with pytest.raises(InputLoadError):
                load(handler, key)

    def test_end_run(self, handler: AtomicIOHandler, out: Out, load: Load) -> None:
        """After its end a run's versions are gone; the latest values stay."""
        handler.handle_output(out("k", "run1"), 1)
        handler.handle_output(out("k", "run2"), 2)
        handler.end_run("run1")

        assert [2, 2] == [load(handler, "k", run) for run in ("run1", "run2")]
        assert handler.committed("run1", "k") is None

    def test_without_a_step(self, handler: AtomicIOHandler, load: Load) -> None:
        """A context made by hand with a run and no step stores each key for itself."""
        for key in ("x", "y"):
            handler.handle_output(OutputContext(key, run_id="run1", attempt_id=f"a-{key}"), key)

        assert ["x", "y"] == [load(handler, key, "run1") for key in ("x", "y")]

    def test_without_a_run(self, handler: AtomicIOHandler, load: Load) -> None:
        """A context made by hand, with a key and nothing else, stores; the last write wins."""
        handler.handle_output(OutputContext("k"), 1)
        handler.handle_output(OutputContext("k"), 2)

        assert 2 == load(handler, "k")


class TestPickleIOHandler:
    @pytest.mark.parametrize("given", [90, 90.0, timedelta(minutes=1.5), "90"], ids=repr)
    def test_sweep_after(self, tmp_path: Path, given: Any) -> None:
        """`sweep_after` is seconds, a timedelta, or text from the environment."""
        assert 90.0 == PickleIOHandler(tmp_path, sweep_after=given).sweep_after

    @pytest.mark.parametrize("given", [True, 0, -1, timedelta(0), "soon"], ids=repr)
    def test_wrong_sweep_after(self, tmp_path: Path, given: Any) -> None:
        """A bool, and what is not above 0, is refused."""
        with pytest.raises(ValidationError, match="sweep_after"):
            PickleIOHandler(tmp_path, sweep_after=given)

    def test_end_run_leaves_values_only(self, tmp_path: Path, out: Out) -> None:
        """After a run's end the folder holds the latest values and the mark of the end."""
        handler = PickleIOHandler(tmp_path, prefix="p")
        handler.handle_output(out("g/t[1]"), 1)
        handler.stage(out("x", step="multi", attempt_id="killed"), 1)
        handler.end_run("run1")

        files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
        assert ["p/.rivers/ended/run1", "p/g/t[1].pkl"] == files

    def test_ended_run_is_refused(self, tmp_path: Path, s3: Any, out: Out, load: Load) -> None:
        """A late attempt cannot commit after the end of its run, whatever it did before."""
        pytest.importorskip("obstore")
        for handler in (PickleIOHandler(tmp_path), PickleIOHandler(s3.store())):
            handler.handle_output(out("k"), "good")
            handler.end_run("run1")
            with pytest.raises(OutputCommitError, match="the run has ended") as caught:
                handler.handle_output(out("k", attempt_id="zombie"), "late")
            assert not caught.value.retryable
            with pytest.raises(OutputCommitError, match="the run has ended"):
                handler.stage(out("x", step="multi"), 1)
                handler.commit("run1", "multi", "a1", ("x",))

            assert "good" == load(handler, "k")

    def test_sweep(self, tmp_path: Path, s3: Any, out: Out, load: Load) -> None:
        """The end of a run removes leftovers of other runs once they are old enough, and not before."""
        pytest.importorskip("obstore")
        for store in (tmp_path, s3.store()):
            patient, strict = PickleIOHandler(store), PickleIOHandler(store, sweep_after=1e-9)
            patient.handle_output(out("k", "killed"), 1)
            patient.handle_output(out("k", "alive"), 2)
            patient.end_run("alive")
            assert 1 == load(patient, "k", "killed")

            patient.handle_output(out("k", "next"), 3)
            strict.end_run("next")

            assert 3 == load(patient, "k", "killed")

    def test_old_marks(self, tmp_path: Path, s3: Any) -> None:
        """Marks of ended runs are removed once they are old enough, however many sweeps it takes."""
        pytest.importorskip("obstore")
        week = 7 * 86400.0
        ended = tmp_path / ".rivers/ended"
        ended.mkdir(parents=True)
        (tmp_path / ".rivers/runs").mkdir()
        for number in range(3 * MOST_MARKS // 2):
            name = f"{number:032x}"
            age = 2 * week if number % 2 else 0.0
            (ended / name).touch()
            os.utime(ended / name, (time.time() - age,) * 2)
            s3.objects[f"base/.rivers/ended/{name}"] = (b"", datetime.now(UTC) - timedelta(seconds=age))
        young = {f"{number:032x}" for number in range(0, 3 * MOST_MARKS // 2, 2)}

        def left() -> set[str]:
            there = {name.rpartition("/")[2] for name in s3.objects if "/ended/" in name}
            return {name for name in (*os.listdir(ended), *there) if not name.startswith("run")}

        for sweep in range(50):
            # Each handler stands for a process; the last sweep is made an hour older for it.
            PickleIOHandler(tmp_path).end_run(f"run{sweep}")
            PickleIOHandler(s3.store()).end_run(f"run{sweep}")
            assert left() >= young
            if left() == young:
                break
            os.utime(tmp_path / ".rivers/swept", (time.time() - 3601,) * 2)
            data, modified = s3.objects["base/.rivers/swept"]
            s3.objects["base/.rivers/swept"] = (data, modified - timedelta(hours=1.1))
        else:
            pytest.fail("old marks stay")

    def test_sweeps_are_rare(self, tmp_path: Path, s3: Any, out: Out) -> None:
        """Within an hour of a sweep no process sweeps again."""
        pytest.importorskip("obstore")
        for store in (tmp_path, s3.store()):
            PickleIOHandler(store).handle_output(out("k", "run0"), 1)
            PickleIOHandler(store).end_run("run0")
        old = tmp_path / ".rivers/ended/old"
        old.touch()
        os.utime(old, (0, 0))
        s3.objects["base/.rivers/ended/old"] = (b"", datetime.fromtimestamp(0, UTC))
        local, bucket = PickleIOHandler(tmp_path), PickleIOHandler(s3.store())
        for run in range(1, 4):
            local.end_run(f"run{run}")
            s3.requests.clear()
            bucket.end_run(f"run{run}")

        assert old.exists()
        assert "base/.rivers/ended/old" in s3.objects
        # The mark of the run's end, and the list of the run's own objects.
        assert [("PUT", "base/.rivers/ended/run3"), ("GET", "")] == s3.requests

    def test_plain_pickle(self, tmp_path: Path, out: Out) -> None:
        """The file can be read with pickle alone."""
        PickleIOHandler(tmp_path).handle_output(out("k"), {"a": 1})

        with (tmp_path / "k.pkl").open("rb") as file:
            assert {"a": 1} == pickle.load(file)

    def test_metadata(self, tmp_path: Path, out: Out) -> None:
        """Storing records path, size and serializer."""
        context = out("k")
        PickleIOHandler(tmp_path).handle_output(context, 1)

        path = tmp_path / "k.pkl"
        assert {"path": str(path), "size_bytes": path.stat().st_size, "serializer": "pickle"} == context.output_metadata

    def test_reach(self, tmp_path: Path) -> None:
        """A folder is reached on this machine, memory in this process, a bucket anywhere."""
        stores = ("file:///x", tmp_path, "memory://", "s3://b", "gs://b", "az://c")

        expected = [Reach.MACHINE, Reach.MACHINE, Reach.PROCESS, *[Reach.ANYWHERE] * 3]
        assert expected == [PickleIOHandler(store).reach for store in stores]
        assert Reach.PROCESS == InMemoryIOHandler().reach

    def test_shared_folder(self, tmp_path: Path) -> None:
        """A folder that all machines have is reached from anywhere, and memory is not."""
        assert [Reach.ANYWHERE, Reach.PROCESS] == [
            PickleIOHandler(store, shared=True).reach for store in (tmp_path, "memory://")
        ]

    @pytest.mark.parametrize("shared", [True, False])
    def test_shared_travels(self, tmp_path: Path, shared: bool) -> None:
        """A worker rebuilds the handler from its JSON, which names the field only where it is set."""
        handler = PickleIOHandler(tmp_path, shared=shared)

        data = handler.model_dump_json()

        assert handler == PickleIOHandler.model_validate_json(data)
        assert shared == ('"shared"' in data)

    def test_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fields come from RIVERS_PICKLE_… and from no shorter name: PREFIX is set on many machines."""
        monkeypatch.setenv("PREFIX", "wrong")
        monkeypatch.setenv("RIVERS_PICKLE_STORE", "/data")
        monkeypatch.setenv("RIVERS_PICKLE_FSYNC", "false")
        handler = PickleIOHandler()

        assert ("file:///data", "", False) == (handler.store, handler.prefix, handler.fsync)

    @pytest.mark.parametrize("prefix", ["../x", "a/../b", "a\nb", "."])
    def test_prefix_escapes(self, prefix: str) -> None:
        """A prefix that would leave the store is refused when the handler is made."""
        with pytest.raises(ValueError, match=r"'\.' or '\.\.' segment"):
            PickleIOHandler("/data", prefix=prefix)

    @pytest.mark.parametrize("key", ["../x", "a/..", "a/../b", "a\nb", "", "\udc80", "x" * 513])
    def test_key_escapes(self, handler: AtomicIOHandler, out: Out, load: Load, tmp_path: Path, key: str) -> None:
        """A key that would leave the prefix, or is no printable string of 512 bytes, is refused, read and written."""
        if isinstance(handler, InMemoryIOHandler):
            pytest.skip("memory has no paths")
        with pytest.raises(ConfigurationError, match="storage key"):
            handler.handle_output(out(key), 1)
        with pytest.raises(ConfigurationError, match="storage key"):
            load(handler, key)
        assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]

    def test_run_id_stays_inside(self, tmp_path: Path, out: Out, load: Load) -> None:
        """Run and attempt ids that look like paths stay below the prefix."""
        handler = PickleIOHandler(tmp_path / "in")
        handler.handle_output(out("k", "../../up", "../a"), 1)
        handler.handle_output(out("k", "..", ".."), 2)

        assert ["in"] == [path.name for path in tmp_path.iterdir()]
        assert 1 == load(handler, "k", "../../up")

    def test_missing_extra(self, monkeypatch: pytest.MonkeyPatch, out: Out) -> None:
        """Without obstore a bucket's handler can be made; using it names the pip command."""
        monkeypatch.delitem(sys.modules, "rivers._io.files.object_store", raising=False)
        monkeypatch.setitem(sys.modules, "obstore", None)
        handler = PickleIOHandler("s3://bucket")

        with pytest.raises(ConfigurationError, match=re.escape("pip install 'rivers-core[objectstore]'")):
            handler.handle_output(out("k"), 1)


@pytest.mark.parametrize("keys", [("k",), ("x", "y")])
def test_retract(handler: AtomicIOHandler, out: Out, load: Load, keys: tuple[str, ...]) -> None:
    """After its commit is retracted a step can be committed anew; until then the latest values stay."""
    step = "k" if keys == ("k",) else "multi"
    for attempt in ("a1", "a2"):
        for key in keys:
            handler.stage(out(key, attempt_id=attempt, step=step), attempt)
        handler.commit("run1", step, attempt, keys)
        assert attempt == handler.committed("run1", step)
        assert {attempt} == {load(handler, key, run) for key in keys for run in ("run1", None)}
        if attempt == "a1":
            handler.retract("run1", step)
            assert handler.committed("run1", step) is None
            assert {"a1"} == {load(handler, key) for key in keys}
    handler.retract("run1", "never")


@pytest.mark.parametrize("keys", [("k",), ("x", "y")])
def test_nothing_staged(handler: AtomicIOHandler, out: Out, keys: tuple[str, ...]) -> None:
    """An attempt that has staged nothing, as its store has lost it, commits nothing."""
    step = "k" if keys == ("k",) else "multi"
    with pytest.raises(OutputCommitError):
        handler.commit("run1", step, "a1", keys)

    assert handler.committed("run1", step) is None
    for key in keys:
        handler.stage(out(key, attempt_id="a2", step=step), 1)
    handler.commit("run1", step, "a2", keys)
    assert "a2" == handler.committed("run1", step)
