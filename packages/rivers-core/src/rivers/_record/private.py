"""Keep what a later controller needs to reach the workers of a durable run, for this user alone."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from rivers.exceptions import RecordError

__all__ = ["PrivateFolder"]

FOLDER = "private"
KEY_FILE = "key"


class PrivateFolder:
    """The folder `private` in the record of a durable run; only its user can read it.

    Nothing shows or copies it, and it is deleted with the end of the run.
    """

    def __init__(self, record: Path) -> None:
        self.path = record / FOLDER

    def read_key(self) -> bytes | None:
        """Return the key that an earlier controller has signed pickled refs with; None if there is none.

        Raises:
            RecordError: it cannot be read.
        """
        try:
            return (self.path / KEY_FILE).read_bytes() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error("read", error) from error

    def make(self, key: bytes) -> None:
        """Create the folder with this key, where it does not exist.

        Raises:
            RecordError: it cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One that was restored from a backup may have got other rights.
            self.path.chmod(0o700)
            if self.read_key() is None:
                # Whole or not at all, and never readable for others.
                partial = self.path / f".{KEY_FILE}"
                partial.unlink(missing_ok=True)
                partial.touch(mode=0o600, exist_ok=False)
                partial.write_bytes(key)
                partial.replace(self.path / KEY_FILE)
        except OSError as error:
            raise self._error("written", error) from error

    def remove(self) -> None:
        """Delete the folder, and the record if nothing else is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def _error(self, what: str, error: OSError) -> RecordError:
        return RecordError(
            f"the folder {self.path} of the durable run cannot be {what}: {error.strerror}",
            hint="a durable run keeps there what a later controller needs to reach its workers; or run without durable",
        )
