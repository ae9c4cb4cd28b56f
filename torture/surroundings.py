"""The environment of a torture: a mark, and folders of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import journal
import work

__all__ = ["Grounds", "grounds"]

IN_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Grounds:
    """The folders of a torture: `shared`, in memory where possible, and `temporary` have to be empty afterwards."""

    root: Path
    shared: Path

    @property
    def temporary(self) -> Path:
        """The folder for temporary files."""
        return self.root / "tmp"

    def environment(self, folder: Path, seed: int) -> dict[str, str]:
        """Return the variables that mark a torture, its workers and what they start by its folder."""
        folder.mkdir()
        return {
            journal.FOLDER: str(folder),
            work.SEED: str(seed),
            "TMPDIR": str(self.temporary),
            "RIVERS_DEFAULT_STORE": str(self.shared),
        }

    def leftovers(self) -> list[str]:
        """Return what lies in the folders that have to be empty, by its topmost name."""
        return sorted(str(path) for folder in (self.shared, self.temporary) for path in folder.iterdir())


@contextmanager
def grounds() -> Iterator[Grounds]:
    """Create the folders, and remove them afterwards."""
    base = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    made = tempfile.TemporaryDirectory
    with made(prefix="torture-") as root, made(prefix="torture-", dir=base) as shared:
        found = Grounds(Path(root), Path(shared))
        found.temporary.mkdir()
        yield found
