"""The log of a backfill: the partitions that have succeeded, beyond the records of their runs, which are pruned."""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path
from types import TracebackType
from typing import IO

__all__ = ["BACKFILL_TAG", "BackfillLog"]

BACKFILL_TAG = "rivers/backfill"
"""The tag of a run that has the id of its backfill."""


class BackfillLog:
    """The log of one backfill, `<home>/backfills/<id>.jsonl`, which one process at a time has open.

    Raises:
        BlockingIOError: another process has it open.
        OSError: it cannot be written.
    """

    def __init__(self, home: Path, backfill: str) -> None:
        self.path = home / "backfills" / f"{backfill}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = self.path.open("ab+", buffering=0)
        try:
            # The kernel drops the lock with the process, however that ends.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise
        self._file.seek(0)
        lines = self._file.read().splitlines(keepends=True)
        self._is_torn = bool(lines) and not lines[-1].endswith(b"\n")
        self._made = {partition for line in lines if (partition := _partition_of(line)) is not None}

    def __contains__(self, partition: str) -> bool:
        return partition in self._made

    def add(self, partition: str, run_id: str | None) -> None:
        """Note that a partition has succeeded."""
        line = json.dumps({"partition": partition, "run_id": run_id, "time": time.time()}).encode()
        # A line that a kill has cut off must not spoil this one.
        self._file.write(b"\n" * self._is_torn + line + b"\n")
        self._is_torn = False
        self._made.add(partition)

    def __enter__(self) -> BackfillLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _partition_of(line: bytes) -> str | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    partition = found.get("partition") if isinstance(found, dict) else None
    return partition if isinstance(partition, str) else None
