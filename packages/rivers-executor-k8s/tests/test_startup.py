"""Tests of the wait for a worker: causes are reported once and in time, and fatal ones end it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from sessions import SLEEPS, in_session, made

from rivers_executor_k8s.pod.pending import PendingCause
from rivers_executor_k8s.run.session import Session
from rivers_executor_k8s.run.startup import CALM, SILENT, StartError, Startup
from rivers_k8s_testing import FakeCluster

NO_SECRET = 'MountVolume.SetUp failed for volume "v" : secret "nowhere" not found'
NO_NODE = "0/1 nodes are available: 1 Insufficient cpu."


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster whose containers sleep."""
    with FakeCluster(command=SLEEPS) as cluster:
        yield cluster


class Told:
    """A start: its reports with their times in seconds, and how it ended."""

    def __init__(self) -> None:
        self.causes: list[PendingCause] = []
        self.at: list[float] = []
        self.error: StartError | None = None
        self.took = 0.0

    @property
    def words(self) -> list[str]:
        return [cause.reason for cause in self.causes]


def begun(fake: FakeCluster, seconds: float = 30.0, *, befalls: Callable[[str], None] | None = None) -> Told:
    """Start a pod, `befalls` is called with its name in another thread."""
    told = Told()

    async def act(session: Session) -> None:
        name, view = await made(session)
        began = time.monotonic()

        def say(cause: PendingCause) -> None:
            told.causes.append(cause)
            told.at.append(time.monotonic() - began)

        befalling = asyncio.ensure_future(asyncio.to_thread(befalls, name)) if befalls is not None else None
        try:
            await Startup(session.cluster, view, say).wait_until_running(began + seconds, seconds)
        except StartError as error:
            told.error = error
        told.took = time.monotonic() - began
        if befalling is not None:
            await befalling
        await session.release_pod(name, view, None)

    in_session(fake, act)
    return told


def note(fake: FakeCluster, pod: str, reason: str, message: str) -> None:
    """Have a component note something about a pod."""
    fake._do(lambda: fake._kubelet._recorder.record(fake._store.get(fake._find(pod)) or {}, "Warning", reason, message))


def test_quick(fake: FakeCluster) -> None:
    """A pod that starts causes no report."""
    told = begun(fake)

    assert (None, []) == (told.error, told.words)


def test_ended_already() -> None:
    """A container that has run and ended is no failure to start: its end gives the result."""
    with FakeCluster(command=[sys.executable, "-c", "raise SystemExit(3)"]) as fake:
        told = begun(fake)

    assert (None, []) == (told.error, told.words)


class TestTold:
    def test_once(self, fake: FakeCluster) -> None:
        """A cause that lasts is reported once, however often the pod changes; another one is reported, too."""
        fake.unschedulable(NO_NODE)

        def befalls(pod: str) -> None:
            time.sleep(CALM + 0.5)
            for _ in range(3):
                fake._do(lambda: fake._store.put(fake._find(pod), fake._store.get(fake._find(pod)) or {}))
                time.sleep(0.1)
            fake.image_error("ErrImagePull", "dial tcp 127.0.0.1:1: connection refused")
            fake.unschedulable("")
            time.sleep(0.5)
            fake.image_error()

        told = begun(fake, befalls=befalls)

        assert ["Unschedulable", "ErrImagePull"] == told.words
        assert NO_NODE == told.causes[0].message
        assert CALM <= told.at[0] < SILENT
        assert told.error is None

    def test_soon_over(self, fake: FakeCluster) -> None:
        """A node that is free again after a second is not worth a word."""
        fake.unschedulable(NO_NODE)

        def befalls(pod: str) -> None:
            time.sleep(CALM / 2)
            fake.unschedulable("")

        told = begun(fake, befalls=befalls)

        assert [] == told.words
        assert told.error is None

    def test_silence(self, fake: FakeCluster) -> None:
        """A pod without a reason is reported as pending after four seconds."""
        fake.start_delay = 5.0
        told = begun(fake)

        assert ["Pending"] == told.words
        assert SILENT <= told.at[0] < SILENT + 0.9
        assert told.error is None

    def test_events(self, fake: FakeCluster) -> None:
        """A cause that is only in events is reported from them."""
        fake.start_delay = 5.0
        told = begun(fake, befalls=lambda pod: note(fake, pod, "FailedAttachVolume", "Multi-Attach error for volume"))

        assert ["FailedAttachVolume"] == told.words
        assert told.error is None


class TestFatal:
    @pytest.mark.parametrize(
        ("reason", "message"),
        [("InvalidImageName", "couldn't parse image name"), ("ErrImageNeverPull", "is not present")],
    )
    def test_at_once(self, fake: FakeCluster, reason: str, message: str) -> None:
        """What no waiting can change ends the attempt at once, for good, with the word and the kubelet's text."""
        fake.image_error(reason, message)
        told = begun(fake)

        assert told.error is not None
        assert (reason, False) == (told.error.reason, told.error.transient)
        assert message in str(told.error)
        assert told.took < SILENT

    def test_that_persists(self, fake: FakeCluster) -> None:
        """A Secret that is missing ends the attempt when it is still missing after its patience."""
        fake.image_error("CreateContainerConfigError", 'secret "nowhere" not found')
        told = begun(fake)

        assert told.error is not None
        assert not told.error.transient
        assert "nowhere" in str(told.error)
        assert 10 <= told.took < 12
        assert ["CreateContainerConfigError"] == told.words

    def test_that_passes(self, fake: FakeCluster) -> None:
        """A Secret that appears within that time starts the pod."""
        fake.image_error("CreateContainerConfigError", 'secret "nowhere" not found')

        def befalls(pod: str) -> None:
            time.sleep(2.0)
            fake.image_error()

        assert begun(fake, befalls=befalls).error is None

    def test_of_events_persists(self, fake: FakeCluster) -> None:
        """A volume's Secret that is missing, which is only in events, ends the attempt after some more seconds."""
        fake.start_delay = 60.0
        told = begun(fake, befalls=lambda pod: note(fake, pod, "FailedMount", NO_SECRET))

        assert told.error is not None
        assert ("FailedMount", False) == (told.error.reason, told.error.transient)
        assert 12 <= told.took < 14

    def test_of_events_passes(self, fake: FakeCluster) -> None:
        """A volume's Secret that has appeared meanwhile does not end a pod whose image is still being pulled."""
        fake.start_delay = 14.0

        def befalls(pod: str) -> None:
            note(fake, pod, "FailedMount", NO_SECRET)
            time.sleep(6.0)
            note(fake, pod, "Pulling", 'Pulling image "test:1"')

        told = begun(fake, befalls=befalls)

        assert told.error is None
        assert ["FailedMount", "Pulling"] == told.words


class TestTimeout:
    def test_with_its_cause(self, fake: FakeCluster) -> None:
        """A pod that does not start in time is given up with the last cause, and another one may work."""
        fake.unschedulable(NO_NODE)
        told = begun(fake, 1.5)

        assert told.error is not None
        assert ("Unschedulable", True) == (told.error.reason, told.error.transient)
        assert f"startup_timeout=1.5 s; last seen: Unschedulable: {NO_NODE}" in str(told.error)
        assert 1.5 <= told.took < 2.5

    def test_without_one(self, fake: FakeCluster) -> None:
        """A pod without any cause in time ends without one."""
        fake.start_delay = 60.0
        told = begun(fake, 1.5)

        assert told.error is not None
        assert (None, True) == (told.error.reason, told.error.transient)
        assert str(told.error).endswith("startup_timeout=1.5 s")

    def test_deleted_meanwhile(self, fake: FakeCluster) -> None:
        """A pod that somebody deletes while it waits is over, and not waited for."""
        fake.unschedulable(NO_NODE)
        told = begun(fake, befalls=lambda pod: (time.sleep(0.5), fake.delete(pod))[0])

        assert told.error is None
        assert told.took < 3
