"""The SPI's door: it checks and encodes, and hands all else to the run on an event loop of its own.

submit ──▶ the scheduler ──▶ a worker's slot: host.run_attempt ──▶ StepProcess: a process for the body
emit   ◀── DaskRun ◀── the scheduler ◀── Worker.log_event ◀── a pipe
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rivers.exceptions import ConfigurationError, Problem, SpecDecodeError
from rivers.protocol import StepSpec, describe_exception, encode_spec
from rivers.spi import Capabilities, ExecutorBackend, Reach, Run, Sink, warning_record
from rivers_executor_dask.attempt import requested_resources
from rivers_executor_dask.cluster import Connection, can_take, check_worker, connect, describe_workers
from rivers_executor_dask.event_loop import ClientLoop
from rivers_executor_dask.executor import DaskExecutor
from rivers_executor_dask.run import DaskRun

__all__ = ["DaskBackend"]


class DaskBackend(ExecutorBackend[DaskExecutor]):
    """The backend of `DaskExecutor`: a client of its own for each run, on the event loop of one thread."""

    executor_type = DaskExecutor

    def __init__(self, executor: DaskExecutor) -> None:
        super().__init__(executor)
        self._loop: ClientLoop | None = None
        self._connection: Connection | None = None
        self._connecting: concurrent.futures.Future[Connection] | None = None
        self._workers: dict[str, Any] = {}
        self._run: DaskRun | None = None
        self._warn: Sink = lambda event: None

    @property
    def capabilities(self) -> Capabilities:
        """A crash is the body's alone; how many run at once is the cluster's matter unless the executor limits it."""
        return Capabilities(
            isolation="process",
            timeout="kill",
            closures="pickled" if self.executor.allow_pickle else "none",
            reach=Reach.ANYWHERE,
            provisions=True,
            max_steps=self.executor.max_concurrent_steps,
        )

    def observe(self, emit: Sink) -> None:
        """Take the callback for warnings of preflight."""
        self._warn = emit

    def preflight(self, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        """Check the specs, connect to the cluster and check its workers."""
        specs = list(specs)
        problems = [problem for spec in specs if (problem := _too_large(spec)) is not None]
        problems = problems or self._connect()
        if not problems and self._connection is not None:
            self._warn_of_missing_workers(specs)
        return problems

    def cancel_preflight(self) -> None:
        """Give up the connection."""
        if self._connecting is not None:
            self._connecting.cancel()

    def abandon(self, deadline: float) -> None:
        """Release the connection."""
        self.close(deadline)

    def open(self, run: Run, emit: Sink) -> None:
        """Use the connection of preflight, or make one; raise ConfigurationError if there is no cluster."""
        if self._connection is None and (problems := self._connect()):
            raise ConfigurationError(problems[0].message)
        assert self._loop is not None
        assert self._connection is not None
        self._run = self._loop.call(self._make_run(self._connection, run, emit), self.executor.connect_timeout)

    def submit(self, spec: StepSpec) -> None:
        """Hand an attempt to the cluster."""
        # Encoded before anything is started: a spec beyond the limits is refused here.
        data = encode_spec(spec)
        assert self._loop is not None
        assert self._run is not None
        self._loop.soon(self._run.submit, spec, data)

    def cancel(self, attempt_id: str, grace: float) -> None:
        """Stop an attempt."""
        if self._loop is not None and self._run is not None:
            self._loop.soon(self._run.cancel, attempt_id, grace)

    def close(self, deadline: float) -> None:
        """End all attempts and the connection."""
        until = time.monotonic() + deadline
        loop, run, connection = self._loop, self._run, self._connection
        self._loop = self._run = self._connection = None
        if loop is None:
            return
        # What does not end in time is left to the scheduler, which notices that the client has gone.
        with contextlib.suppress(TimeoutError, OSError):
            if run is not None:
                loop.call(run.close(deadline * 0.6), deadline)
        with contextlib.suppress(TimeoutError, OSError):
            if connection is not None:
                loop.call(connection.close(), max(1.0, until - time.monotonic()))
        loop.stop(max(1.0, until - time.monotonic()))

    async def _make_run(self, connection: Connection, run: Run, emit: Sink) -> DaskRun:
        return DaskRun(self.executor, connection, self._offered(), run, emit)

    def _connect(self) -> list[Problem]:
        """Connect and ask the present workers for what they offer; return the problems that no step would survive."""
        loop = self._loop = ClientLoop()
        seconds = self.executor.connect_timeout
        self._connecting = loop.start(connect(self.executor.address, seconds))
        try:
            connection = self._connection = self._connecting.result()
            self._workers = loop.call(describe_workers(connection.client, seconds), seconds + 5)
        except concurrent.futures.CancelledError:
            return []
        # Whatever a cluster's own code raises keeps the run from starting, and is the reason.
        except Exception as error:  # noqa: BLE001
            return [Problem(f"executor {self.executor!r}: no Dask cluster: {describe_exception(error)}")]
        finally:
            self._connecting = None
        found = {address: check_worker(worker) for address, worker in self._workers.items()}
        return [
            Problem(f"executor {self.executor!r}: Dask worker {address}: {text}")
            for address, text in found.items()
            if text is not None
        ]

    def _offered(self) -> frozenset[str]:
        return frozenset(name for worker in self._workers.values() for name in worker["resources"])

    def _warn_of_missing_workers(self, specs: list[StepSpec]) -> None:
        """Report the steps that no present worker can take; others may join."""
        for spec in specs:
            asked = requested_resources(spec, self.executor, self._offered())
            if not any(can_take(asked, worker) for worker in self._workers.values()):
                wanted = " ".join(f"{name}={amount:g}" for name, amount in asked.items())
                text = f"no worker of the Dask cluster offers {wanted or 'itself'} now, which {spec.step} needs"
                limit = f"it fails after {self.executor.startup_timeout:g} s without one"
                self._warn(warning_record(f"{text}; {limit}", logger="rivers.dask"))


def _too_large(spec: StepSpec) -> Problem | None:
    try:
        encode_spec(spec)
    except SpecDecodeError as error:
        return Problem(str(error), spec.step)
    return None
