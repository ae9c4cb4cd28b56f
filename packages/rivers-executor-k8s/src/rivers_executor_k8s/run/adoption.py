"""Adopt the pods that an earlier controller of a durable run has left.

    pods of the run ──▶ those of open attempts ──▶ launch of each ──▶ AdoptedAttempt: read on where the record ends
                   └──▶ all others: deleted

A warm pod serves many attempts: it is found by the worker that the record names, or asked for the attempt.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from rivers.protocol import Ending, Failure, FailureReason, StepResult, StepSpec
from rivers.spi import OpenAttempt
from rivers_executor_k8s.pod.names import ATTEMPT_ID, WORKER_ATTEMPT
from rivers_executor_k8s.pod.objects import Pod
from rivers_executor_k8s.run.attempt import PodAttempt
from rivers_executor_k8s.run.launch import WorkerLaunch
from rivers_executor_k8s.run.session import Session
from rivers_worker.client import WorkerRefusedError

__all__ = ["AdoptedAttempt", "LeftPods"]

CONTROLLER_LOST = 13
"""The exit code of a worker that no controller has called for `orphan_ttl`."""


class LeftPods:
    """The pods of a run that earlier controllers have left, and the attempts that are open."""

    def __init__(self, session: Session, attempts: Mapping[str, OpenAttempt]) -> None:
        self._session = session
        self._attempts = attempts
        self._pods: dict[str, Pod] = {}

    async def find(self) -> None:
        """List the pods, and delete those that nobody waits for.

        Raises:
            ApiError, ApiUnreachableError: the API server refuses, or does not answer.
        """
        pods = await self._session.list_pods()
        for pod in pods:
            if self._may_serve(pod):
                self._pods[pod.metadata.name] = pod
            elif pod.metadata.deletion_timestamp is None:
                self._session.spawn(self._session.cluster.delete_pod(pod.metadata.name, pod.metadata.uid, grace=1))

    def find_candidates(self, attempt: OpenAttempt) -> list[Pod]:
        """Return the pods that may have an attempt, the likeliest first."""
        if attempt.worker:
            return [self._pods[attempt.worker]] if attempt.worker in self._pods else []
        # Its own pod, or a warm one that was free when it was submitted.
        own = [pod for pod in self._pods.values() if _attempt_of(pod) == attempt.attempt_id]
        return own + [pod for pod in self._pods.values() if _is_warm(pod) and pod not in own]

    def _may_serve(self, pod: Pod) -> bool:
        """Return whether an open attempt may be in this pod."""
        if any(pod.metadata.name == attempt.worker for attempt in self._attempts.values()):
            return True
        unseen = {one for one, attempt in self._attempts.items() if not attempt.worker}
        return _attempt_of(pod) in unseen or (bool(unseen) and _is_warm(pod))


class AdoptedAttempt(PodAttempt):
    """An attempt that an earlier controller has submitted, in one of these pods."""

    def __init__(self, spec: StepSpec, session: Session, known: OpenAttempt, pods: Sequence[Pod]) -> None:
        super().__init__(spec, session)
        self._known = known
        self._pods = pods
        self._has_started = known.started is not None
        self._is_elsewhere = False

    async def _run_to_end(self) -> StepResult:
        for pod in self._pods:
            # A warm worker has run others before: its end says nothing of this attempt.
            self._has_served = _is_warm(pod)
            self._launch = WorkerLaunch(self.spec, self._session, self._report, pod=pod)
            await self._launch.start()
            self._is_elsewhere = False
            result = await self._run_on_worker()
            if not self._is_elsewhere:
                return self._without_controller(result)
        # The pods that were asked for nothing are not its own: they must not be deleted with it.
        self._launch = WorkerLaunch(self.spec, self._session, self._report)
        return self._not_found()

    async def _execute(self) -> StepResult:
        try:
            client = self._client = await self._launch.connect()
            self._boot = 0.0 if self._has_started else time.monotonic() - self._began
            hello = self._launch.hello
            # The earlier controller was killed before it could send the spec.
            is_new = hello is not None and hello.state == "waiting" and not self._has_served
            result = await self._call(client, None if is_new else self._known.seq)
            await self._acknowledge(client, result)
            return result
        finally:
            await self._launch.disconnect()

    async def _result_of_lost_worker(self, error: Exception) -> StepResult | None:
        if isinstance(error, WorkerRefusedError) and self._has_served:
            self._is_elsewhere = True
            return self._not_found()
        return await super()._result_of_lost_worker(error)

    def _without_controller(self, result: StepResult) -> StepResult:
        """Return the result; an attempt whose worker has waited for a controller in vain begins anew."""
        evidence = result.failure.evidence if result.failure is not None else None
        if evidence is not None and evidence.exit_code == CONTROLLER_LOST:
            return replace(result, ending=Ending.NOT_STARTED)
        return result

    def _not_found(self) -> StepResult:
        failure = Failure(
            reason=FailureReason.INFRASTRUCTURE,
            type="",
            message="nothing was left of the attempt in the cluster when the run was resumed",
            evidence=self._evidence(),
            transient=True,
        )
        return StepResult(attempt_id=self.spec.attempt_id, ending=Ending.NOT_STARTED, failure=failure)


def _attempt_of(pod: Pod) -> str | None:
    return pod.metadata.annotations.get(ATTEMPT_ID)


def _is_warm(pod: Pod) -> bool:
    return WORKER_ATTEMPT in pod.metadata.annotations
