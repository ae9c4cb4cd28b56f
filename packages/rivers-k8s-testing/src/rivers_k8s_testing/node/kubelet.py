"""Scheduler and kubelet in one: from a pod that was created to one that has ended, each in a task of its own."""

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
from rivers_k8s_testing.node.container import ConfigError, Container, environment, step_container
from rivers_k8s_testing.node.notes import Notes
from rivers_k8s_testing.store import Key, Store

__all__ = ["Kubelet", "Life", "until"]

Pod = Mapping[str, Any]
NO_START = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    'unable to start container process: exec: "{0}": stat {0}: {1}: unknown'
)
OVERDUE = "Pod was active on the node longer than the specified deadline"


class Life:
    """What the kubelet knows of a pod beside its object.

    `verdict` is the reason that the container's end gets, when it is not Completed or Error. While `known` is not set
    the pod's node is lost: nothing of it is told, and nothing is done to it.
    """

    def __init__(self, key: Key, uid: str, folder: Path) -> None:
        self.key = key
        self.uid = uid
        self.folder = folder
        self.log = folder / "log"
        self.container: Container | None = None
        self.task: asyncio.Task[None] | None = None
        self.verdict = ""
        self.known = asyncio.Event()
        self.known.set()
        self.timers: list[asyncio.TimerHandle] = []

    @property
    def lost(self) -> bool:
        """Whether its node is."""
        return not self.known.is_set()

    @property
    def runs(self) -> bool:
        """Whether its container does."""
        return self.container is not None and self.container.runs

    def later(self, seconds: float, act: Callable[..., object], *given: object) -> None:
        """Do something at a time, unless the pod has ended by then."""
        self.timers.append(asyncio.get_running_loop().call_later(seconds, act, *given))

    def stop_waiting(self) -> None:
        """Give up what it waits for before its container runs."""
        if self.task is not None and self.container is None:
            self.task.cancel()

    def stop_timers(self) -> None:
        """Do nothing later."""
        for timer in self.timers:
            timer.cancel()


class Kubelet:
    """Carries out the pods of a store. The attributes say what is wrong with the cluster just now."""

    def __init__(self, store: Store, folder: Path, mark: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.start_delay = 0.0
        self.unschedulable = ""
        self.image_error: tuple[str, str] | None = None
        self.lives: dict[str, Life] = {}
        self._store = store
        self._notes = Notes(store)
        self._folder = folder
        self._mark = mark
        self._command = command
        self._env = env
        self._changed = asyncio.Event()

    # ---- what the server tells --------------------------------------------------------------------------------------

    def added(self, key: Key, pod: Pod) -> None:
        """A pod was created: see to it."""
        uid = pod["metadata"]["uid"]
        life = self.lives[uid] = Life(key, uid, self._folder / uid)
        life.task = asyncio.ensure_future(self._live(life))

    def deleting(self, uid: str, grace: float) -> None:
        """Its deletion was asked for: end it within `grace` seconds, then remove the object."""
        life = self.lives.get(uid)
        if life is None or life.lost:
            return
        if not life.runs:
            life.stop_waiting()
            self._remove(life)
            return
        self._note(life, "Normal", "Killing", "Stopping container rivers-step")
        self._stop(life, grace)

    def deleted(self, uid: str) -> None:
        """The object is gone already: end what is left of it."""
        life = self.lives.get(uid)
        if life is None or life.lost:
            return
        life.stop_waiting()
        if life.container is not None and life.container.runs:
            life.container.signal(signal.SIGKILL)
        else:
            self._forget(life)

    def changed(self) -> None:
        """Something that pods wait for may be otherwise now."""
        self._changed.set()
        self._changed = asyncio.Event()

    # ---- what befalls pods ------------------------------------------------------------------------------------------

    def kill(self, uid: str, number: int, verdict: str = "") -> None:
        """A signal for the container, and the reason of its end."""
        life = self._life(uid)
        life.verdict = verdict
        if life.container is not None:
            life.container.signal(number)

    def fail(self, uid: str, reason: str, message: str, disruption: str = "", grace: float = 0.0) -> None:
        """End a pod as a kubelet does that has to: Failed at once, its container within `grace` seconds."""
        life = self._life(uid)
        if disruption:
            self._change(life, partial(statuses.disrupted, reason=disruption, message=message))
        self._change(life, partial(statuses.evicted, reason=reason, message=message))
        self._note(life, "Warning", reason, message)
        life.stop_waiting()
        self._stop(life, grace)

    def lose(self, uid: str, *, frozen: bool, toleration: float) -> None:
        """Its node does not report any more; after `toleration` seconds the pod is marked for deletion."""
        life = self._life(uid)
        life.known.clear()
        life.stop_waiting()
        if life.container is not None and frozen:
            life.container.signal(signal.SIGSTOP)
        self._change(life, statuses.node_lost)
        self._note(life, "Warning", "NodeNotReady", "Node is not ready")
        life.later(toleration, self._taint, life)

    def _life(self, uid: str) -> Life:
        if uid not in self.lives:
            raise LookupError("the pod has no process: it is stubbed, or has just been removed")
        return self.lives[uid]

    def _taint(self, life: Life) -> None:
        words = "Taint manager: deleting due to NoExecute taint"
        self._change(life, partial(statuses.disrupted, reason="DeletionByTaintManager", message=words))
        pod = self._store.get(life.key)
        if life.lost and pod is not None and "deletionTimestamp" not in pod["metadata"]:
            grace = pod["spec"]["terminationGracePeriodSeconds"]
            self._change(life, partial(statuses.deleting, when=until(grace), grace=grace))

    def restore(self) -> None:
        """All nodes are back: containers go on, and are ended where that was asked for meanwhile."""
        for life in [life for life in self.lives.values() if life.lost]:
            life.known.set()
            if life.container is not None:
                life.container.signal(signal.SIGCONT)
            pod = self._store.get(life.key)
            if pod is None or pod["metadata"]["uid"] != life.uid:
                self.deleted(life.uid)
            elif "deletionTimestamp" in pod["metadata"]:
                self.deleting(life.uid, pod["metadata"]["deletionGracePeriodSeconds"])

    async def close(self) -> None:
        """End all of it."""
        lives = list(self.lives.values())
        for life in lives:
            life.stop_timers()
            if life.task is not None:
                life.task.cancel()
        if lives:
            await asyncio.wait([life.task for life in lives if life.task is not None])
        for life in lives:
            if life.container is not None:
                life.container.reap()

    # ---- a pod's life -----------------------------------------------------------------------------------------------

    async def _live(self, life: Life) -> None:
        await self._schedule(life)
        await self._wait_to_start(life)
        container = self._start(life)
        if container is not None:
            code = await container.ended()
            await life.known.wait()
            self._ended(life, container, code)

    async def _schedule(self, life: Life) -> None:
        words = ""
        while self.unschedulable:
            if words != self.unschedulable:
                words = self.unschedulable
                self._change(life, partial(statuses.unschedulable, words=words))
                self._note(life, "Warning", "FailedScheduling", words)
            await self._changed.wait()
        self._change(life, statuses.scheduled)
        self._note(life, "Normal", "Scheduled", f"Successfully assigned {'/'.join(life.key[1:])} to {statuses.NODE}")

    async def _wait_to_start(self, life: Life) -> None:
        self._change(life, statuses.waiting)
        pod = self._store.get(life.key)
        if pod is not None and "activeDeadlineSeconds" in pod["spec"]:
            grace = pod["spec"]["terminationGracePeriodSeconds"]
            overdue = partial(self.fail, life.uid, "DeadlineExceeded", OVERDUE, grace=grace)
            life.later(pod["spec"]["activeDeadlineSeconds"], overdue)
        if self.start_delay:
            await asyncio.sleep(self.start_delay)
        wrong: tuple[str, str] | None = None
        while self.image_error is not None:
            if wrong != self.image_error:
                wrong = self.image_error
                self._waits(life, *wrong)
            await self._changed.wait()

    def _start(self, life: Life) -> Container | None:
        pod = self._store.get(life.key)
        assert pod is not None
        life.folder.mkdir(mode=0o700)
        try:
            env = environment(pod, life.folder, f"{self._mark}/{life.uid}", self._env)
            life.container = Container(self._command, env, life.folder)
        except ConfigError as error:
            self._waits(life, "CreateContainerConfigError", str(error))
            return None
        except OSError as error:
            self._finish(
                life, 128, "StartError", NO_START.format(self._command[0], os.strerror(error.errno or 0).lower())
            )
            return None
        self._change(life, statuses.running)
        self._note(life, "Normal", "Pulled", "Container image already present on machine")
        self._note(life, "Normal", "Created", f"Created container: {statuses.step_name(pod)}")
        self._note(life, "Normal", "Started", f"Started container {statuses.step_name(pod)}")
        return life.container

    def _waits(self, life: Life, reason: str, message: str) -> None:
        self._change(life, partial(statuses.waiting, reason=reason, message=message))
        self._note(life, "Warning", "Failed", f"Error: {message}")

    def _stop(self, life: Life, grace: float) -> None:
        if life.container is None:
            return
        life.container.signal(signal.SIGTERM if grace else signal.SIGKILL)
        if grace:
            life.later(grace, life.container.signal, signal.SIGKILL)

    def _ended(self, life: Life, container: Container, code: int) -> None:
        """Tell that a container has ended, in the steps that a kubelet does it in."""
        life.stop_timers()
        pod = self._store.get(life.key)
        if pod is None or pod["metadata"]["uid"] != life.uid:
            self._forget(life)
            return
        reason = life.verdict or ("Completed" if code == 0 else "Error")
        self._finish(life, code, reason, container.message(step_container(pod), code))
        if "deletionTimestamp" in pod["metadata"]:
            self._remove(life)

    def _finish(self, life: Life, code: int, reason: str, message: str) -> None:
        pod = self._store.get(life.key) or {"metadata": {}}
        asked = "deletionTimestamp" in pod["metadata"]
        told = partial(statuses.ended, exit_code=code, reason=reason, message=message, all_of_it=asked)
        self._change(life, told)
        self._change(life, statuses.finished)

    def _remove(self, life: Life) -> None:
        """The last of a pod whose deletion was asked for."""
        pod = self._store.get(life.key)
        if pod is not None and pod["metadata"]["uid"] == life.uid:
            self._change(life, partial(statuses.deleting, when=until(0), grace=0))
            self._store.delete(life.key)
        self._forget(life)

    def _forget(self, life: Life) -> None:
        life.stop_timers()
        self.lives.pop(life.uid, None)
        shutil.rmtree(life.folder, ignore_errors=True)

    def _change(self, life: Life, change: Callable[[Pod], Pod]) -> None:
        pod = self._store.get(life.key)
        if pod is not None and pod["metadata"]["uid"] == life.uid:
            changed = change(pod)
            if changed != pod:
                self._store.put(life.key, changed)

    def _note(self, life: Life, kind: str, reason: str, message: str) -> None:
        pod = self._store.get(life.key)
        if pod is not None:
            self._notes.add(pod, kind, reason, message)


def until(seconds: float) -> str:
    """The time so many seconds from now, as objects carry it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
