"""Keep the announcements of a durable run's workers: a log that the kubelet has rotated has lost its first line."""

from __future__ import annotations

import contextlib
from pathlib import Path

from rivers_worker.client import Announcement, AnnouncementError, announcement_in

__all__ = ["KeptAnnouncements"]


class KeptAnnouncements:
    """The announcements of workers in a folder, by the names of their pods; without a folder none is kept.

    They are public: each holds a port and a certificate. One that cannot be written is read from the log again.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder / "workers" if folder is not None else None

    def keep(self, pod: str, announcement: Announcement) -> None:
        """Write the announcement of the worker in a pod."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.mkdir(exist_ok=True)
                (self._folder / pod).write_text(f"{announcement.line}\n")

    def find(self, pod: str) -> Announcement | None:
        """Return the announcement of the worker in a pod, None if none was kept."""
        if self._folder is None:
            return None
        try:
            return announcement_in((self._folder / pod).read_bytes())
        except (OSError, AnnouncementError):
            return None

    def drop(self, pod: str) -> None:
        """Delete the announcement of a worker whose pod is deleted."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / pod).unlink()
