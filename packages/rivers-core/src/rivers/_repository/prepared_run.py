"""A run that is checked and ready: its loop and its observers."""

from __future__ import annotations

from dataclasses import dataclass

from rivers._executor.drive import RunLoop
from rivers._repository.observe import Observers
from rivers._repository.run import RunResult, make_result

__all__ = ["PreparedRun"]


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A run that can be carried out once; `is_resumed` if an earlier process has begun it.

    `is_made` says of a retry that it would run nothing: the run that it retries has made everything.
    """

    loop: RunLoop
    observers: Observers
    is_resumed: bool = False
    is_made: bool = False

    def carry_out(self, raise_on_error: bool) -> RunResult:
        """Run to the end and return the result.

        Raises:
            KeyboardInterrupt: Ctrl-C; its attribute `result` has the steps until then.
            Exception: with `raise_on_error`, the exception of the first step that failed.
        """
        loop = self.loop
        with self.observers:
            try:
                loop.run()
            except KeyboardInterrupt as interrupt:
                # Else preflight was interrupted, and there is no result.
                if loop.status != "running":
                    interrupt.result = self._result()[0]  # type: ignore[attr-defined]  # of the steps until then
                raise
            result, error = self._result()
        if raise_on_error and error is not None:
            raise error
        return result

    def _result(self) -> tuple[RunResult, BaseException | None]:
        loop, observers = self.loop, self.observers
        return make_result(loop.plan, loop, observers.record, lambda: (observers.describe(), observers.redactor()))
