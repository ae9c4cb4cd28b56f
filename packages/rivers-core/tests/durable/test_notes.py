"""Keep what a body has said of its output in one act with the value, for a controller that did not hear of it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pydantic
import pytest

import rivers as rs
from rivers._io.note import MOST_NOTE_BYTES
from rivers._record import recorder
from rivers.io_handlers import AtomicIOHandler, InMemoryIOHandler
from rivers.protocol.result import OutputRecord

sys.path.append(str(Path(__file__).parent))

from kills import in_child
from small_run import note, notes

ROWS = 5
MARK = 'é\n"quoted" {} \N{SNOWMAN}'


class Vault(rs.Resource):
    """A resource with a secret."""

    password: pydantic.SecretStr = pydantic.SecretStr("hunter2-of-vault")


def make_repository(folder: Path, handler: Any = None, rows: Any = ROWS) -> rs.CodeRepository:
    """Return a repository with metadata in every kind of step; `secret` fails while there is a file `fail`."""

    @rs.Asset
    def plain(context: rs.AssetExecutionContext) -> int:
        note(folder, "plain")
        context.add_output_metadata({"rows": rows, "mark": MARK})
        context.register_data_version("v1 of plain")
        return 1

    @rs.Asset.from_multi(output_defs=[rs.AssetDef("low"), rs.AssetDef("high")])
    def bounds(context: rs.AssetExecutionContext, plain: int) -> Any:
        note(folder, "bounds")
        context.add_output_metadata({"of": "both"})
        return {"low": rs.Output(1, metadata={"rows": rows}, data_version="low 1"), "high": 2}

    @rs.Task
    def split(context: rs.TaskExecutionContext, plain: int) -> list[rs.DynamicOutput]:
        note(folder, "split")
        context.add_output_metadata({"rows": rows})
        return [rs.DynamicOutput(key=f"k{number}", value=number) for number in range(2)]

    @rs.Task
    def twice(context: rs.TaskExecutionContext, part: int) -> int:
        note(folder, "twice")
        context.add_output_metadata({"rows": rows, "part": part})
        return part * 2

    @rs.Task
    def add(parts: list[int]) -> int:
        return sum(parts)

    @rs.Asset.from_graph
    def total(plain: int) -> object:
        return add(split(plain).map(twice).collect())

    @rs.Asset
    def secret(context: rs.AssetExecutionContext, plain: int, vault: Vault) -> int:
        note(folder, "secret")
        if (folder / "fail").exists():
            raise ValueError("not yet")
        context.add_output_metadata({"rows": rows, "url": f"x://me:{vault.password.get_secret_value()}@host"})
        context.register_data_version(f"v?token={vault.password.get_secret_value()}")
        return 1

    store = handler if handler is not None else rs.PickleIOHandler(folder / "data", fsync=False)
    assets = [plain, bounds, total, secret]
    return rs.CodeRepository(assets, default_io_handler=store, resources={"vault": Vault()})


class _KillingOs:
    """The module `os` as the recorder sees it: it kills the process in place of writing the success of a step."""

    def __init__(self, step: str) -> None:
        self._marks = (b'"event":"StepSucceeded"', f'"step":"{step}"'.encode())

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, file: int, data: bytes) -> int:
        if all(mark in data for mark in self._marks):
            os.kill(os.getpid(), signal.SIGKILL)
        return os.write(file, data)


def kill_before_record(folder: Path, step: str, **options: Any) -> str:
    """Kill a controller between a step's commit and the line of its success, and return the run's id."""

    def begin() -> None:
        recorder.os = _KillingOs(step)  # type: ignore[attr-defined]
        make_repository(folder, **options).materialize(record=folder)

    assert -signal.SIGKILL == in_child(begin)
    (record,) = (folder / "runs").iterdir()
    return record.name


def metadata_of(record: OutputRecord) -> dict[str, Any]:
    """Return the metadata of an output."""
    found: dict[str, Any] = json.loads(record.metadata or "{}")
    return found


@pytest.mark.parametrize("step", ["plain", "bounds", "total/split", "total/twice[k1]", "secret"])
def test_resumed(tmp_path: Path, step: str) -> None:
    """A step whose success was not recorded is reused with the metadata and the version that a whole run reports."""
    run_id = kill_before_record(tmp_path, step)
    body = step.removeprefix("total/").partition("[")[0]
    before = notes(tmp_path).count(body)
    resumed = make_repository(tmp_path).resume(run_id, record=tmp_path)
    (tmp_path / "other").mkdir()
    whole = make_repository(tmp_path / "other").materialize()

    assert before == notes(tmp_path).count(body)
    for old, new in zip(whole.steps[step].outputs, resumed.steps[step].outputs, strict=True):
        wanted, found = metadata_of(old), metadata_of(new)
        wanted["path"] = wanted["path"].replace(f"{tmp_path}/other", str(tmp_path))
        # A longer attempt id makes another size.
        assert abs(wanted.pop("size_bytes") - found.pop("size_bytes")) < 40
        if step == "secret":
            wanted["url"] = "x://me:***@host"
        assert wanted == found
        assert (old.data_version, old.map_keys) == (new.data_version, new.map_keys)


def test_no_secret_in_the_store(tmp_path: Path) -> None:
    """What a record masks does not stand beside the value either."""
    kill_before_record(tmp_path, "secret")
    files = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]

    assert not any(b"hunter2" in data for data in files)
    assert any(b"x://me:***@host" in data for data in files)


@pytest.mark.parametrize(("size", "is_kept"), [(20_000, True), (MOST_NOTE_BYTES, False)])
def test_long_metadata(tmp_path: Path, size: int, is_kept: bool) -> None:
    """Metadata that are longer than what a look at a trailer reads are kept, very long ones are not."""
    run_id = kill_before_record(tmp_path, "plain", rows="r" * size)
    repo = make_repository(tmp_path, rows="r" * size)
    (output,) = repo.resume(run_id, record=tmp_path).steps["plain"].outputs

    assert ("r" * size if is_kept else None) == metadata_of(output).get("rows")
    assert "v1 of plain" == output.data_version
    assert 1 == repo.load_node("plain")


def test_memos_and_notes(tmp_path: Path) -> None:
    """A note beside a memo changes nothing for runs that skip what did not change."""
    make_repository(tmp_path).materialize(skip_unchanged=True)
    files = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert not any(b"hunter2" in data for data in files)
    result = make_repository(tmp_path).materialize(skip_unchanged=True)

    assert {"unchanged"} == {report.state.value for report in result.steps.values()}


class Forgetful(InMemoryIOHandler):
    """A handler of a user's that commits atomically and cannot recall."""

    def recall(self, context: rs.OutputContext) -> str | None:
        raise LookupError("no idea")


@pytest.mark.parametrize(("handler", "rows"), [(InMemoryIOHandler(), ROWS), (Forgetful(), None)])
def test_in_this_process(tmp_path: Path, handler: AtomicIOHandler, rows: int | None) -> None:
    """Within one process a handler in memory recalls, too; one that cannot loses the metadata and nothing else."""
    (tmp_path / "fail").touch()
    repo = make_repository(tmp_path, handler)
    run_id = repo.materialize(record=tmp_path, raise_on_error=False).run_id
    (tmp_path / "fail").unlink()
    events = tmp_path / "runs" / run_id / "events.jsonl"
    lines = events.read_text().splitlines(keepends=True)
    events.write_text("".join(line for line in lines if not ('"StepSucceeded"' in line and '"plain"' in line)))
    (output,) = repo.resume(run_id, record=tmp_path).steps["plain"].outputs

    assert rows == metadata_of(output).get("rows")
    assert (1, 1) == (notes(tmp_path).count("plain"), repo.load_node("plain"))
