"""Keep the controller's identity in a file, so that a later controller of the run can call its workers."""

from __future__ import annotations

from pathlib import Path

from rivers_worker.credentials import Identity

__all__ = ["IDENTITY_FILE", "keep_identity"]

IDENTITY_FILE = "controller.pem"


def keep_identity(folder: Path, run_id: str) -> Identity:
    """Return the identity of a run's controller from its private folder, where it is created at first.

    Raises:
        OSError: the file cannot be read or written.
        CredentialsError: the file holds no identity of this run.
    """
    path = folder / IDENTITY_FILE
    try:
        kept = Identity.from_pem(run_id, path.read_bytes())
    except FileNotFoundError:
        kept = None
    # Workers that trust an old certificate are gone by now: none lives as long.
    if kept is None or kept.is_expired:
        kept = Identity.of_controller(run_id)
        partial = path.with_name(f".{path.name}")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600, exist_ok=False)
        partial.write_bytes(kept.pem)
        partial.replace(path)
    return kept
