"""Scripted faults: each happens to the requests it was meant for, as it would come from a network or a server."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterator

import pytest
from fake_clients import PODS, Client, passing, pod

from rivers_k8s_testing import FakeCluster, Fault


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """A cluster of instant pods."""
    with passing(stub=lambda pod: "done", bookmarks=0.05) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[Client]:
    client = Client(cluster.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def impatient(cluster: FakeCluster) -> Iterator[Client]:
    """A client that waits for half a second."""
    client = Client(cluster.kubeconfig, timeout=0.5)
    yield client
    client.close()


@pytest.mark.parametrize(
    ("where", "header", "body"), [("both", "2", 2), ("header", "2", None), ("body", None, 2)], ids=str
)
def test_too_many_requests(cluster: FakeCluster, client: Client, where: str, header: str | None, body: object) -> None:
    """A 429 says in its header, its body or both when to come again, and nothing was handled."""
    cluster.faults.add(Fault.status(429, retry_after=2, retry_after_in=where), verb="create", times=1)  # type: ignore[arg-type]
    status, said = client.ask("POST", PODS, pod())

    assert (429, "TooManyRequests") == (status, said["reason"])
    assert (header, body) == (client.last.get("retry-after"), said.get("details", {}).get("retryAfterSeconds"))
    assert [] == cluster.pods()
    assert 201 == client.ask("POST", PODS, pod())[0]


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_broken_servers(cluster: FakeCluster, client: Client, code: int) -> None:
    """A 5xx comes with a Status object, or with a proxy's page; the connection goes on."""
    cluster.faults.add(Fault.status(code), times=1)
    cluster.faults.add(Fault.html(code), times=1)

    first, said = client.ask("GET", PODS)
    second, page = client.ask("GET", PODS)
    assert (code, code, "Status") == (first, second, said["kind"])
    assert page.startswith("<html>")
    assert 200 == client.ask("GET", PODS)[0]


def test_garbage(cluster: FakeCluster, client: Client) -> None:
    """A garbage body is no JSON and no text."""
    cluster.faults.add(Fault.garbage(), times=1)

    body = client.open("GET", PODS).read()
    with pytest.raises(ValueError, match=r"."):
        json.loads(body)


@pytest.mark.parametrize(("after", "kept"), [(False, 0), (True, 1)], ids=["before", "after"])
def test_resets(cluster: FakeCluster, client: Client, after: bool, kept: int) -> None:
    """A reset before handling leaves nothing behind, one after it the pod, and no answer either way."""
    cluster.faults.add(Fault.reset(after=after), verb="create", times=1)
    with pytest.raises(ConnectionResetError):
        client.ask("POST", PODS, pod())

    assert kept == len(cluster.pods())
    assert [(0, "reset")] == [(request.status, request.fault) for request in cluster.requests]


@pytest.mark.parametrize(("after", "kept"), [(False, 0), (True, 1)], ids=["before", "after"])
def test_hangs(cluster: FakeCluster, impatient: Client, after: bool, kept: int) -> None:
    """A request that hangs is not answered for as long as the client waits."""
    cluster.faults.add(Fault.hang(after=after), verb="create", times=1)
    with pytest.raises(TimeoutError):
        impatient.ask("POST", PODS, pod())

    assert kept == len(cluster.pods())


def test_a_slow_server(cluster: FakeCluster, client: Client) -> None:
    """A slow request is handled late, and well."""
    cluster.faults.add(Fault.slow(0.2), times=1)
    begin = time.monotonic()

    assert 201 == client.ask("POST", PODS, pod())[0]
    assert time.monotonic() - begin >= 0.2


def test_a_log_that_is_refused(cluster: FakeCluster, client: Client) -> None:
    """A fault can be for the log endpoint alone, and of one pod."""
    client.create("a")
    client.create("b")
    cluster.faults.add(Fault.status(403), resource="pods/log", name="a")

    assert (403, 200) == (client.ask("GET", f"{PODS}/a/log")[0], client.ask("GET", f"{PODS}/b/log")[0])
    assert 200 == client.ask("GET", f"{PODS}/a")[0]


def test_how_often(cluster: FakeCluster, client: Client) -> None:
    """`times` ends a fault, `every` skips requests, and rules can be counted, removed and cleared."""
    every = cluster.faults.add(Fault.status(500), verb="get", every=3)
    seen = [client.ask("GET", f"{PODS}/none")[0] for _ in range(6)]
    cluster.faults.remove(every)
    later = [client.ask("GET", f"{PODS}/none")[0] for _ in range(3)]
    cluster.faults.add(Fault.status(500))
    cluster.faults.clear()

    assert [404, 404, 500, 404, 404, 500] == seen
    assert ([404] * 3, 2) == (later, every.hits)
    assert 404 == client.ask("GET", f"{PODS}/none")[0]


@pytest.mark.parametrize(("dry_run", "seen"), [(True, (500, 201)), (False, (201, 500)), (None, (500, 500))])
def test_dry_runs(cluster: FakeCluster, client: Client, dry_run: bool | None, seen: tuple[int, int]) -> None:
    """A fault can be for dry runs alone, for others alone, or for both."""
    cluster.faults.add(Fault.status(500), verb="create", dry_run=dry_run)

    assert seen == (client.ask("POST", PODS, pod(), dryRun="All")[0], client.ask("POST", PODS, pod())[0])


def test_a_share_of_requests(cluster: FakeCluster, client: Client) -> None:
    """A rate is met nearly, by several faults, and by the same requests with the same seed."""
    kinds = (Fault.status(500), Fault.status(503), Fault.status(429))

    def seen(seed: int) -> list[int]:
        rule = cluster.faults.add(*kinds, rate=0.3, seed=seed)
        found = [client.ask("GET", f"{PODS}/none")[0] for _ in range(200)]
        cluster.faults.remove(rule)
        return found

    first = seen(1)
    assert 30 < len([status for status in first if status != 404]) < 90
    assert {404, 429, 500, 503} == set(first)
    assert first == seen(1)
    assert first != seen(2)


def test_no_fault() -> None:
    """A rule without a fault is a mistake."""
    with FakeCluster() as cluster, pytest.raises(ValueError, match="expected at least one Fault"):
        cluster.faults.add(verb="create")


# ---- watches ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(cluster: FakeCluster, client: Client) -> str:
    """Three events: a pod is ADDED and twice MODIFIED. The version before them."""
    since: str = client.get(PODS)["metadata"]["resourceVersion"]
    client.create("p")
    cluster.wait_for("p", "Succeeded")
    return since


def phases(lines: list[bytes]) -> str:
    """The first letters of the phases, `!` for what is no pod's event."""
    found = ""
    for line in lines:
        try:
            event = json.loads(line)
            found += event["object"]["status"]["phase"][0] if event["type"] in {"ADDED", "MODIFIED"} else "!"
        except (ValueError, TypeError, KeyError):
            found += "!"
    return found


def test_a_watch_as_it_is(client: Client, three: str) -> None:
    """Without a fault there are three events, in order."""
    assert "PRS" == phases(client.until_idle(three))


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (Fault.cut(events=2), "PR"),
        (Fault.cut(events=0), ""),
        (Fault.error(410), "!"),
        (Fault.error(500, "etcdserver: leader changed", events=1), "P!"),
        (Fault.line(b"<garbage>", events=1), "P!RS"),
        (Fault.line(b"null"), "!PRS"),
        (Fault.unknown_type(events=3), "PRS!"),
        (Fault.duplicate(), "PPRRSS"),
        (Fault.replay(events=2), "PRPRS"),
    ],
    ids=["cut", "empty", "410", "500", "garbage", "null", "unknown", "duplicate", "replay"],
)
def test_spoilt_watches(cluster: FakeCluster, client: Client, three: str, fault: Fault, seen: str) -> None:
    """Each fault of a watch is seen by its client; the next watch is as it should be."""
    cluster.faults.add(fault, verb="watch", times=1)

    assert seen == phases(client.until_idle(three))
    assert "PRS" == phases(client.until_idle(three))


def test_a_watch_out_of_order(cluster: FakeCluster, client: Client, three: str) -> None:
    """Of two events the later comes first; a last one comes alone."""
    cluster.faults.add(Fault.reorder(), verb="watch")

    assert "RPS" == phases(list(client.lines(resourceVersion=three, timeoutSeconds=1)))


def test_an_error_event_is_a_status(cluster: FakeCluster, client: Client) -> None:
    """An ERROR event carries a Status as a server's does."""
    cluster.faults.add(Fault.error(410), verb="watch")

    (line,) = client.lines()
    assert ("ERROR", 410, "Expired") == (
        (event := json.loads(line))["type"],
        event["object"]["code"],
        event["object"]["reason"],
    )


def test_a_watch_cut_in_an_event(cluster: FakeCluster, client: Client, three: str) -> None:
    """A watch can be cut within an event: half of it comes, and then the connection ends."""
    cluster.faults.add(Fault.cut(events=1, mid_json=True), verb="watch")
    answer = client.open("GET", PODS, watch=1, resourceVersion=three)

    assert "P" == phases([answer.readline()])
    with pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()
    assert cut.value.partial.startswith(b'{"type":"MODIFIED"')


def test_a_watch_cut_after_a_time(cluster: FakeCluster, client: Client, three: str) -> None:
    """A watch can be cut after some time, whether something comes or not."""
    cluster.faults.add(Fault.cut(seconds=0.2), verb="watch")
    begin = time.monotonic()

    assert "PRS" == phases(list(client.lines(resourceVersion=three)))
    assert 0.2 <= time.monotonic() - begin < 10


def test_a_watch_that_stalls(cluster: FakeCluster, impatient: Client, three: str) -> None:
    """A stalled watch says nothing more, not even bookmarks, and is not closed."""
    cluster.faults.add(Fault.stall(events=1), verb="watch")
    lines = impatient.lines(resourceVersion=three, allowWatchBookmarks="true")

    assert "P" == phases([next(lines)])
    with pytest.raises(TimeoutError):
        next(lines)


def test_faults_of_streams_are_for_streams(cluster: FakeCluster, client: Client) -> None:
    """A fault of a watch does not befall other requests, whatever they were chosen by."""
    rule = cluster.faults.add(Fault.stall())

    assert 201 == client.ask("POST", PODS, pod())[0]
    assert 0 == rule.hits


def test_a_log_is_cut(client: Client) -> None:
    """A log that is followed can be cut, too."""
    with FakeCluster(command=[sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]) as cluster:
        cluster.faults.add(Fault.cut(seconds=0.1), resource="pods/log")
        other = Client(cluster.kubeconfig)
        other.create("p")
        cluster.wait_for("p", "Running")
        begin = time.monotonic()
        said = other.get(f"{PODS}/p/log", follow="true")
        other.close()

    assert said in {"", "up\n"}
    assert time.monotonic() - begin < 30
