"""Keep the controller's identity in a file, so that a later controller of the run can call its workers."""

from __future__ import annotations

from pathlib import Path

from rivers_worker.credentials import Identity

__all__ = ["IDENTITY_FILE", "find_identity", "make_identity"]

IDENTITY_FILE = "controller.pem"


def find_identity(folder: Path, run_id: str) -> Identity | None:
    """Return the identity of a run's controllers from its private folder; None if there is none, or it has expired.

    Raises:
        OSError: the file cannot be read.
        CredentialsError: the file holds no identity of this run.
    """
    try:
        found = Identity.from_pem(run_id, (folder / IDENTITY_FILE).read_bytes())
    except FileNotFoundError:
        return None
    return None if found.is_expired else found


def make_identity(folder: Path, run_id: str) -> Identity:
    """Create the identity of a run's controllers, and write it to the run's private folder.

    Raises:
        OSError: the file cannot be written.
    """
    made = Identity.of_controller(run_id)
    path = folder / IDENTITY_FILE
    # Whole or not at all, and never readable for others.
    partial = path.with_name(f".{path.name}")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600, exist_ok=False)
    partial.write_bytes(made.pem)
    partial.replace(path)
    return made
