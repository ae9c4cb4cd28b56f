"""Which news of pods are news, whatever a watch makes of them."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from rivers_executor_k8s.api.pod_cache import PodCache, is_behind
from rivers_executor_k8s.pod.objects import (
    ContainerState,
    ContainerStatus,
    Metadata,
    Pod,
    PodStatus,
    RunningState,
    TerminatedState,
    WaitingState,
)

STATES = {
    "waiting": ContainerState(waiting=WaitingState()),
    "running": ContainerState(running=RunningState()),
    "terminated": ContainerState(terminated=TerminatedState()),
}


def pod(uid: str, version: str, phase: str = "Pending", state: str | None = None, *, deleting: bool = False) -> Pod:
    metadata = Metadata(name=uid, uid=uid, resource_version=version, deletion_timestamp="now" if deleting else None)
    statuses = (ContainerStatus(state=STATES[state]),) if state is not None else ()
    return Pod(metadata=metadata, status=PodStatus(phase=phase, container_statuses=statuses))


def life(uid: str) -> list[Pod]:
    """A pod's states, from its making to its deletion; versions are numbers that say nothing."""
    versions = [f"{uid}-{number * 7919 % 101}" for number in range(7)]
    return [
        pod(uid, versions[0]),
        pod(uid, versions[1], "Pending", "waiting"),
        pod(uid, versions[2], "Running", "running"),
        pod(uid, versions[3], "Running", "terminated"),
        pod(uid, versions[4], "Succeeded", "terminated"),
        pod(uid, versions[5], "Succeeded", "terminated", deleting=True),
    ]


class TestEvents:
    def test_each_version_once(self) -> None:
        """An event that comes again, at once or after others, is not told again."""
        cache = PodCache()
        states = life("a")

        assert [True, False, True, False] == [cache.update(states[index]) for index in (0, 0, 1, 0)]

    def test_not_in_the_wrong_order(self) -> None:
        """A state that a pod has passed already is not told, though it was never seen."""
        cache = PodCache()
        states = life("a")

        assert [True, False, True, False] == [cache.update(states[index]) for index in (2, 1, 4, 3)]

    def test_a_deletion_is_the_end(self) -> None:
        """Of a pod that is gone nothing is told any more, neither a change nor its deletion."""
        cache = PodCache()
        states = life("a")
        cache.update(states[0])

        assert [True, False, False] == [cache.remove(states[5]), cache.remove(states[5]), cache.update(states[4])]

    def test_a_pod_without_uid_is_none(self) -> None:
        """An object without a uid is ignored."""
        cache = PodCache()

        assert (False, False) == (cache.update(Pod()), cache.remove(Pod()))


class TestLists:
    def test_what_changed_and_what_is_missing(self) -> None:
        """A list tells of what is new or different, and of what is not there any more as it was last."""
        cache = PodCache()
        for uid in "abc":
            cache.update(life(uid)[0])
        cache.begin_list()

        changed, gone = cache.apply_list([life("a")[0], life("b")[1], life("d")[0]])

        assert [life("b")[1], life("d")[0]] == changed
        assert [life("c")[0]] == gone

    def test_what_the_watch_has_told_meanwhile_is_newer(self) -> None:
        """Changes, new pods and deletions that arrive during a list request are not undone by the list."""
        cache = PodCache()
        for uid in "ab":
            cache.update(life(uid)[2])
        cache.begin_list()
        cache.update(life("a")[4])
        cache.remove(life("b")[5])
        cache.update(life("c")[0])

        assert ([], []) == cache.apply_list([life("a")[2], life("b")[2]])
        cache.begin_list()
        assert ([], [life("c")[0]]) == cache.apply_list([life("a")[4]])

    def test_a_list_is_right(self) -> None:
        """A list counts even if a state looks older."""
        cache = PodCache()
        cache.update(life("a")[2])
        cache.begin_list()

        assert ([life("a")[1]], []) == cache.apply_list([life("a")[1]])


def test_an_eviction_is_ahead() -> None:
    """A pod that has failed without any container's status is further than one that runs."""
    assert is_behind(pod("a", "1", "Running", "running"), pod("a", "2", "Failed"))
    assert not is_behind(pod("a", "2", "Failed"), pod("a", "1", "Running", "running"))


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_any_watch_tells_the_truth(seed: int, count: int) -> None:
    """Through losses, repetitions, replays and swapped events, each pod only moves on, and a list completes it."""
    chance = random.Random(seed)
    cache = PodCache()
    told: dict[str, list[Pod]] = {}
    gone: list[str] = []
    events = sorted(((index, uid) for uid in "abcd"[:count] for index in range(7)), key=lambda event: event[0])
    for place in range(len(events) - 1):
        if chance.random() < 0.2:
            events[place], events[place + 1] = events[place + 1], events[place]
    events = [event for event in events if chance.random() > 0.2]
    for place in range(0, len(events), 5):
        if chance.random() < 0.3:
            events[place:place] = events[max(0, place - 4) : place]
    truth: dict[str, int] = {}
    for index, uid in events:
        truth[uid] = max(index, truth.get(uid, 0))
        if index == 6:
            if cache.remove(life(uid)[5]):
                gone.append(uid)
        elif cache.update(life(uid)[index]):
            assert uid not in gone
            assert not told.get(uid) or not is_behind(life(uid)[index], told[uid][-1])
            told.setdefault(uid, []).append(life(uid)[index])
    cache.begin_list()
    changed, missing = cache.apply_list([life(uid)[index] for uid, index in truth.items() if index < 6])
    for state in changed:
        told.setdefault(state.metadata.uid, []).append(state)
    gone += [state.metadata.uid for state in missing]

    assert len(gone) == len(set(gone))
    assert {uid for uid, index in truth.items() if index == 6} == set(gone)
    for uid, index in truth.items():
        if index < 6:
            assert life(uid)[index] == told[uid][-1]
