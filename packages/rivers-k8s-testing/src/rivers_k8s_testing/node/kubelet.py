"""Schedule and run pods, each in a task of its own, from its creation to its end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rivers_k8s_testing.node import statuses
from rivers_k8s_testing.node.container import ConfigError, ContainerProcess, build_environment, find_step_container
from rivers_k8s_testing.node.event_recorder import EventRecorder
from rivers_k8s_testing.store import Key, Store

__all__ = ["Kubelet", "PodRuntime", "time_after"]

Pod = Mapping[str, Any]
NO_START = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    'unable to start container process: exec: "{0}": stat {0}: {1}: unknown'
)
OVERDUE = "Pod was active on the node longer than the specified deadline"


class PodRuntime:
    """The state of a pod on its node.

    `verdict` is the reason for the container's end if it is not Completed or Error. While `known` is not set, the pod's
    node is lost: its status is not updated, and nothing is done to it.
    """

    def __init__(self, key: Key, uid: str, folder: Path) -> None:
        self.key = key
        self.uid = uid
        self.folder = folder
        self.log = folder / "log"
        self.container: ContainerProcess | None = None
        self.task: asyncio.Task[None] | None = None
        self.verdict = ""
        self.known = asyncio.Event()
        self.known.set()
        self.timers: list[asyncio.TimerHandle] = []

    @property
    def lost(self) -> bool:
        """True while the pod's node is lost."""
        return not self.known.is_set()

    @property
    def runs(self) -> bool:
        """True while the container runs."""
        return self.container is not None and self.container.runs

    def later(self, seconds: float, act: Callable[..., object], *given: object) -> None:
        """Schedule a call after so many seconds, unless the pod ends before."""
        self.timers.append(asyncio.get_running_loop().call_later(seconds, act, *given))

    def stop_waiting(self) -> None:
        """Stop waiting for the container's start."""
        if self.task is not None and self.container is None:
            self.task.cancel()

    def stop_timers(self) -> None:
        """Cancel the scheduled calls."""
        for timer in self.timers:
            timer.cancel()


class Kubelet:
    """The scheduler and kubelet of the only node; its attributes are the faults that a test has configured."""

    def __init__(self, store: Store, folder: Path, mark: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.start_delay = 0.0
        self.unschedulable = ""
        self.image_error: tuple[str, str] | None = None
        self.runtimes: dict[str, PodRuntime] = {}
        self._store = store
        self._recorder = EventRecorder(store)
        self._folder = folder
        self._mark = mark
        self._command = command
        self._env = env
        self._changed = asyncio.Event()

    # ---- calls of the API server -----------------------------------------------------------------------------------

    def start_pod(self, key: Key, pod: Pod) -> None:
        """Start to run a pod that was created."""
        uid = pod["metadata"]["uid"]
        runtime = self.runtimes[uid] = PodRuntime(key, uid, self._folder / uid)
        runtime.task = asyncio.ensure_future(self._run_pod(runtime))

    def stop_pod(self, uid: str, grace: float) -> None:
        """Stop a pod within `grace` seconds, then remove its object."""
        runtime = self.runtimes.get(uid)
        if runtime is None or runtime.lost:
            return
        if not runtime.runs:
            runtime.stop_waiting()
            self._remove(runtime)
            return
        self._record_event(runtime, "Normal", "Killing", "Stopping container rivers-step")
        self._stop(runtime, grace)

    def discard_pod(self, uid: str) -> None:
        """Kill what is left of a pod whose object is gone."""
        runtime = self.runtimes.get(uid)
        if runtime is None or runtime.lost:
            return
        runtime.stop_waiting()
        if runtime.container is not None and runtime.container.runs:
            runtime.container.signal(signal.SIGKILL)
        else:
            self._forget(runtime)

    def notify_changed(self) -> None:
        """Let waiting pods check again."""
        # A new event for the next change: every waiting task sees this one exactly once.
        self._changed.set()
        self._changed = asyncio.Event()

    # ---- faults of pods ------------------------------------------------------------------------------------------

    def kill(self, uid: str, number: int, verdict: str = "") -> None:
        """Send a signal to the container and set the reason for its end."""
        runtime = self._life(uid)
        runtime.verdict = verdict
        if runtime.container is not None:
            runtime.container.signal(number)

    def fail(self, uid: str, reason: str, message: str, disruption: str = "", grace: float = 0.0) -> None:
        """Fail a pod as the kubelet does: phase Failed at once, its container stopped within `grace` seconds."""
        runtime = self._life(uid)
        if disruption:
            self._change(runtime, partial(statuses.mark_disrupted, reason=disruption, message=message))
        self._change(runtime, partial(statuses.mark_evicted, reason=reason, message=message))
        self._record_event(runtime, "Warning", reason, message)
        runtime.stop_waiting()
        self._stop(runtime, grace)

    def lose(self, uid: str, *, frozen: bool, toleration: float) -> None:
        """Lose the pod's node; after `toleration` seconds the pod is marked for deletion."""
        runtime = self._life(uid)
        runtime.known.clear()
        runtime.stop_waiting()
        # Stopped processes stand for those that nothing reaches: their connections stay open and silent.
        if runtime.container is not None and frozen:
            runtime.container.signal(signal.SIGSTOP)
        self._change(runtime, statuses.mark_node_lost)
        self._record_event(runtime, "Warning", "NodeNotReady", "Node is not ready")
        runtime.later(toleration, self._taint, runtime)

    def _life(self, uid: str) -> PodRuntime:
        if uid not in self.runtimes:
            raise LookupError("the pod has no process: it is stubbed, or has just been removed")
        return self.runtimes[uid]

    def _taint(self, runtime: PodRuntime) -> None:
        words = "Taint manager: deleting due to NoExecute taint"
        self._change(runtime, partial(statuses.mark_disrupted, reason="DeletionByTaintManager", message=words))
        pod = self._store.get(runtime.key)
        if runtime.lost and pod is not None and "deletionTimestamp" not in pod["metadata"]:
            grace = pod["spec"]["terminationGracePeriodSeconds"]
            self._change(runtime, partial(statuses.mark_deleting, when=time_after(grace), grace=grace))

    def restore(self) -> None:
        """Restore all nodes: their containers go on, or are stopped if that was requested meanwhile."""
        for runtime in [runtime for runtime in self.runtimes.values() if runtime.lost]:
            runtime.known.set()
            if runtime.container is not None:
                runtime.container.signal(signal.SIGCONT)
            pod = self._store.get(runtime.key)
            if pod is None or pod["metadata"]["uid"] != runtime.uid:
                self.discard_pod(runtime.uid)
            elif "deletionTimestamp" in pod["metadata"]:
                self.stop_pod(runtime.uid, pod["metadata"]["deletionGracePeriodSeconds"])

    async def close(self) -> None:
        """Kill all containers."""
        runtimes = list(self.runtimes.values())
        for runtime in runtimes:
            runtime.stop_timers()
            if runtime.task is not None:
                runtime.task.cancel()
        if runtimes:
            await asyncio.wait([runtime.task for runtime in runtimes if runtime.task is not None])
        for runtime in runtimes:
            if runtime.container is not None:
                runtime.container.reap()

    # ---- a pod from start to end -----------------------------------------------------------------------------------

    async def _run_pod(self, runtime: PodRuntime) -> None:
        await self._schedule(runtime)
        await self._wait_to_start(runtime)
        container = self._start(runtime)
        if container is not None:
            code = await container.wait()
            # A lost node reports the end of a container when it is back.
            await runtime.known.wait()
            self._finish_container(runtime, container, code)

    async def _schedule(self, runtime: PodRuntime) -> None:
        words = ""
        while self.unschedulable:
            if words != self.unschedulable:
                words = self.unschedulable
                self._change(runtime, partial(statuses.mark_unschedulable, words=words))
                self._record_event(runtime, "Warning", "FailedScheduling", words)
            await self._changed.wait()
        self._change(runtime, statuses.mark_scheduled)
        self._record_event(
            runtime, "Normal", "Scheduled", f"Successfully assigned {'/'.join(runtime.key[1:])} to {statuses.NODE}"
        )

    async def _wait_to_start(self, runtime: PodRuntime) -> None:
        self._change(runtime, statuses.mark_waiting)
        pod = self._store.get(runtime.key)
        if pod is not None and "activeDeadlineSeconds" in pod["spec"]:
            grace = pod["spec"]["terminationGracePeriodSeconds"]
            overdue = partial(self.fail, runtime.uid, "DeadlineExceeded", OVERDUE, grace=grace)
            runtime.later(pod["spec"]["activeDeadlineSeconds"], overdue)
        if self.start_delay:
            await asyncio.sleep(self.start_delay)
        wrong: tuple[str, str] | None = None
        while self.image_error is not None:
            if wrong != self.image_error:
                wrong = self.image_error
                self._waits(runtime, *wrong)
            await self._changed.wait()

    def _start(self, runtime: PodRuntime) -> ContainerProcess | None:
        # The folder holds the log and the termination message; its mode keeps other users out.
        pod = self._store.get(runtime.key)
        assert pod is not None
        runtime.folder.mkdir(mode=0o700)
        try:
            env = build_environment(pod, runtime.folder, f"{self._mark}/{runtime.uid}", self._env)
            runtime.container = ContainerProcess(self._command, env, runtime.folder)
        except ConfigError as error:
            self._waits(runtime, "CreateContainerConfigError", str(error))
            return None
        except OSError as error:
            self._finish(
                runtime, 128, "StartError", NO_START.format(self._command[0], os.strerror(error.errno or 0).lower())
            )
            return None
        self._change(runtime, statuses.mark_running)
        self._record_event(runtime, "Normal", "Pulled", "Container image already present on machine")
        self._record_event(runtime, "Normal", "Created", f"Created container: {statuses.step_name(pod)}")
        self._record_event(runtime, "Normal", "Started", f"Started container {statuses.step_name(pod)}")
        return runtime.container

    def _waits(self, runtime: PodRuntime, reason: str, message: str) -> None:
        self._change(runtime, partial(statuses.mark_waiting, reason=reason, message=message))
        self._record_event(runtime, "Warning", "Failed", f"Error: {message}")

    def _stop(self, runtime: PodRuntime, grace: float) -> None:
        if runtime.container is None:
            return
        runtime.container.signal(signal.SIGTERM if grace else signal.SIGKILL)
        if grace:
            runtime.later(grace, runtime.container.signal, signal.SIGKILL)

    def _finish_container(self, runtime: PodRuntime, container: ContainerProcess, code: int) -> None:
        """Update the pod after its container's end, in the kubelet's order."""
        runtime.stop_timers()
        pod = self._store.get(runtime.key)
        if pod is None or pod["metadata"]["uid"] != runtime.uid:
            self._forget(runtime)
            return
        reason = runtime.verdict or ("Completed" if code == 0 else "Error")
        self._finish(runtime, code, reason, container.message(find_step_container(pod), code))
        if "deletionTimestamp" in pod["metadata"]:
            self._remove(runtime)

    def _finish(self, runtime: PodRuntime, code: int, reason: str, message: str) -> None:
        pod = self._store.get(runtime.key) or {"metadata": {}}
        is_deleting = "deletionTimestamp" in pod["metadata"]
        end = partial(statuses.mark_ended, exit_code=code, reason=reason, message=message, side_cars=is_deleting)
        self._change(runtime, end)
        self._change(runtime, statuses.mark_finished)

    def _remove(self, runtime: PodRuntime) -> None:
        """Remove the object of a pod that was deleted and has ended."""
        pod = self._store.get(runtime.key)
        if pod is not None and pod["metadata"]["uid"] == runtime.uid:
            self._change(runtime, partial(statuses.mark_deleting, when=time_after(0), grace=0))
            self._store.delete(runtime.key)
        self._forget(runtime)

    def _forget(self, runtime: PodRuntime) -> None:
        runtime.stop_timers()
        self.runtimes.pop(runtime.uid, None)
        shutil.rmtree(runtime.folder, ignore_errors=True)

    def _change(self, runtime: PodRuntime, change: Callable[[Pod], Pod]) -> None:
        pod = self._store.get(runtime.key)
        if pod is not None and pod["metadata"]["uid"] == runtime.uid:
            changed = change(pod)
            # As the API server does, no new version is stored for an update without a change.
            if changed != pod:
                self._store.put(runtime.key, changed)

    def _record_event(self, runtime: PodRuntime, kind: str, reason: str, message: str) -> None:
        pod = self._store.get(runtime.key)
        if pod is not None:
            self._recorder.record(pod, kind, reason, message)


def time_after(seconds: float) -> str:
    """Return the time so many seconds from now, in the format of Kubernetes' objects."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
