"""A run on hosts, as the tests of breaks look at it while it goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from loopback import wait_for

import rivers as rs
from rivers_executor_ssh import SshExecutor

__all__ = ["CODE", "HostRun"]

CODE = Path(__file__).parent / "user_code"


class HostRun:
    """A run in a thread, and what its bodies note."""

    def __init__(self, assets: list[rs.Asset], executor: SshExecutor, folder: Path, **given: object) -> None:
        self.notes, self.go = folder / "notes", folder / "go"
        self.events: list[object] = []
        env = {"NOTES": str(self.notes), "GO": str(self.go), "COLOUR": "blue"}
        self._repo = rs.CodeRepository(
            assets=assets,
            default_executor=dataclasses.replace(executor, env=env),
            default_io_handler=rs.PickleIOHandler(folder / "store", shared=True),
        )
        self.handle = self._repo.submit(on_event=self.events.append, **given)  # type: ignore[arg-type]

    def lines(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def until(self, count: int) -> list[str]:
        """Wait for so many notes."""
        assert wait_for(lambda: len(self.lines()) >= count, 30), (self.lines(), self.events)
        return self.lines()

    def warnings(self) -> list[str]:
        return [event.message for event in self.events if type(event).__name__ == "RunWarning"]  # type: ignore[attr-defined]

    def logs(self) -> list[str]:
        return [event.message for event in self.events if type(event).__name__ == "StepLog"]  # type: ignore[attr-defined]

    def end(self) -> rs.RunResult:
        try:
            return self.handle.wait(50)
        finally:
            self._repo.shutdown()
