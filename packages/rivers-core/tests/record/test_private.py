"""The private folder of a durable run."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from rivers._record.private import PrivateFolder
from rivers.exceptions import RecordError


def test_first_key_stays(tmp_path: Path) -> None:
    """A later controller finds the key of the first one; the folder goes with its record, if nothing else is there."""
    private = PrivateFolder(tmp_path / "run")
    private.make(b"first")
    private.make(b"second")

    assert b"first" == private.read_key()
    assert [0o700, 0o600] == [stat.S_IMODE(path.stat().st_mode) for path in (private.path, private.path / "key")]
    private.remove()
    assert not (tmp_path / "run").exists()


def test_rights_are_restored(tmp_path: Path) -> None:
    """A folder that others may read is closed again."""
    private = PrivateFolder(tmp_path)
    private.make(b"key")
    private.path.chmod(0o755)
    private.make(b"key")

    assert 0o700 == stat.S_IMODE(private.path.stat().st_mode)


def test_remove_leaves_the_record(tmp_path: Path) -> None:
    """The rest of the record stays."""
    private = PrivateFolder(tmp_path)
    private.make(b"key")
    (tmp_path / "events.jsonl").touch()
    private.remove()

    assert ["events.jsonl"] == [path.name for path in tmp_path.iterdir()]


def test_no_room(tmp_path: Path) -> None:
    """A folder that cannot be made or read is an error that names it."""
    (tmp_path / "private").touch()
    private = PrivateFolder(tmp_path)

    with pytest.raises(RecordError, match="private of the durable run cannot be written"):
        private.make(b"key")
    with pytest.raises(RecordError, match="private of the durable run cannot be read"):
        private.read_key()
