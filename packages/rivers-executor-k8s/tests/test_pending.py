"""Causes of pending pods, from statuses of a real cluster (`statuses/`) and messages of other runtimes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from rivers_executor_k8s.pod.names import STEP_CONTAINER
from rivers_executor_k8s.pod.objects import (
    Condition,
    ContainerState,
    ContainerStatus,
    Event,
    Metadata,
    Pod,
    PodSpec,
    PodStatus,
    RunningState,
    TerminatedState,
    WaitingState,
)
from rivers_executor_k8s.pod.pending import (
    CONFIG_PATIENCE,
    MOUNT_PATIENCE,
    PendingCause,
    explain_missing_entrypoint,
    find_cause,
)

STATUSES = Path(__file__).parent / "statuses"
IMAGE = "registry.example/team/worker:1"
REFUSED = "127.0.0.1:5002/missing:1"


class Seen(msgspec.Struct):
    """Return a pod that was recorded on Kubernetes 1.34 with containerd."""

    pod: Pod
    events: tuple[Event, ...]


def seen(name: str) -> Seen:
    return msgspec.json.decode((STATUSES / f"{name}.json").read_bytes(), type=Seen)


def waiting(reason: str, message: str = "", image: str = IMAGE) -> Pod:
    state = ContainerState(waiting=WaitingState(reason=reason, message=message))
    status = ContainerStatus(name=STEP_CONTAINER, image=image, state=state)
    return Pod(status=PodStatus(container_statuses=(status,)), spec=PodSpec(node_name="n1"))


WAITS = [
    ("unschedulable-selector", "Unschedulable", "didn't match Pod's node affinity/selector"),
    ("unschedulable-cpu", "Unschedulable", "1 Insufficient cpu"),
    ("unschedulable-claim", "Unschedulable", 'persistentvolumeclaim "nope" not found'),
    ("scheduling-gated", "SchedulingGated", "scheduling gates"),
    ("pull-refused", "ErrImagePull", "image '127.0.0.1:1/missing:1' cannot be pulled yet"),
    ("pull-refused", "ErrImagePull", "connection refused"),
    ("pull-server-error", "ErrImagePull", "500 Internal Server Error"),
    ("pull-unavailable", "ErrImagePull", "503 Service Unavailable"),
    ("pull-rate-limited", "ErrImagePull", "429 Too Many Requests"),
    ("pull-hangs", "Pulling", 'Pulling image "127.0.0.1:5005/missing:1"'),
    ("volume-host-missing", "FailedMount", "hostPath type check failed: /nope is not a directory"),
    ("init-runs", "Initializing", "init container 'setup' runs"),
]

FATAL = [
    ("invalid-image-name", "InvalidImageName", 0.0, "'rivers-worker:latest+07' is not the name of an image"),
    ("never-pull", "ErrImageNeverPull", 0.0, "image 'localhost/missing:1' is not on node node-1"),
    ("pull-not-found", "ErrImagePull", 0.0, "127.0.0.1:5000/missing:1: not found"),
    ("pull-unauthorized", "ErrImagePull", 0.0, "401 Unauthorized – is its name right"),
    ("pull-denied", "ErrImagePull", 0.0, "403 Forbidden – is its name right"),
    ("init-pull", "ErrImagePull", 0.0, "init container 'setup': image '127.0.0.1:5000/missing:1' cannot be pulled"),
    ("config-map-missing", "CreateContainerConfigError", CONFIG_PATIENCE, 'configmap "nope" not found: make it in'),
    ("secret-missing", "CreateContainerConfigError", CONFIG_PATIENCE, 'secret "nope" not found: make it in'),
    ("secret-key-missing", "CreateContainerConfigError", CONFIG_PATIENCE, "find key nope in Secret rivers/here: make"),
    ("root-image", "CreateContainerConfigError", CONFIG_PATIENCE, "numeric USER other than 0"),
    ("no-command", "CreateContainerError", 0.0, "image 'localhost/empty:1' has no command"),
    ("volume-secret-missing", "FailedMount", MOUNT_PATIENCE, 'secret "nope" not found: make it in'),
    ("volume-config-map-missing", "FailedMount", MOUNT_PATIENCE, 'configmap "nope" not found: make it in'),
]


@pytest.mark.parametrize(("name", "word", "text"), WAITS)
def test_what_may_change_is_waited_for(name: str, word: str, text: str) -> None:
    """A cluster without room and a registry that does not answer are told in their own words, and are not fatal."""
    cause = find_cause(seen(name).pod, seen(name).events)

    assert cause is not None
    assert (word, False, 0.0) == (cause.reason, cause.fatal, cause.patience)
    assert text in cause.message


@pytest.mark.parametrize(("name", "word", "patience", "text"), FATAL)
def test_what_does_not_change_is_fatal(name: str, word: str, patience: float, text: str) -> None:
    """Refused images, missing objects and commands that cannot run are fatal, with a hint."""
    cause = find_cause(seen(name).pod, seen(name).events)

    assert cause is not None
    assert (word, True, patience) == (cause.reason, cause.fatal, cause.patience)
    assert text in cause.message


PULLS = ["refused", "not-found", "unauthorized", "denied", "server-error", "rate-limited", "unavailable"]


@pytest.mark.parametrize("name", PULLS)
def test_a_failed_pull_and_its_back_off_are_one_cause(name: str) -> None:
    """The kubelet goes to and fro between two states of a pull; the cause stays the same, and so is told once."""
    assert find_cause(seen(f"pull-{name}").pod) == find_cause(seen(f"pull-{name}-back-off").pod) is not None


def test_before_1_31_a_back_off_is_explained_by_an_event() -> None:
    """A back-off that does not say why takes the registry's words from the event; without it nothing is said."""
    pod = waiting("ImagePullBackOff", f'Back-off pulling image "{REFUSED}"', REFUSED)

    assert find_cause(pod) is None
    assert find_cause(seen("pull-denied").pod) == find_cause(pod, seen("pull-denied").events)


STARTED = [
    "runs",
    "exit-0",
    "sidecar-stays",
    "oom",
    "no-entrypoint",
    "init-failed",
    "deadline-pending",
    "node-affinity",
]


@pytest.mark.parametrize("name", STARTED)
def test_a_pod_that_runs_or_is_over_waits_for_nothing(name: str) -> None:
    """Once the worker's container runs or has ended, and once the pod has, there is no cause."""
    assert find_cause(seen(name).pod, seen(name).events) is None


def test_a_pod_of_which_nothing_was_said_has_no_cause() -> None:
    """A new pod, and one whose container is about to be made, have no cause."""
    assert find_cause(Pod()) is None
    assert find_cause(waiting("ContainerCreating")) is None


# ---- other runtimes, other registries -------------------------------------------------------------------------------

REFUSALS = [
    f"Error response from daemon: manifest for {IMAGE} not found: manifest unknown: manifest unknown",
    (
        "Error response from daemon: pull access denied for registry.example/team/worker, repository does not exist or "
        "may require 'docker login': denied: requested access to the resource is denied"
    ),
    "Error response from daemon: unauthorized: incorrect username or password",
    (
        'Error response from daemon: Head "https://registry.example/v2/team/worker/manifests/1": denied: Permission '
        '"artifactregistry.repositories.downloadArtifacts" denied on resource'
    ),
    "Error response from daemon: Get https://registry.example/v2/team/worker/manifests/1: no basic auth credentials",
    f"reading manifest 1 in {IMAGE}: manifest unknown",
    (
        f"initializing source docker://{IMAGE}: reading manifest 1 in registry.example/team/worker: name unknown: The "
        "repository with name 'team/worker' does not exist in the registry"
    ),
    f"unable to retrieve auth token: invalid username/password: unauthorized: authentication required ({IMAGE})",
    f"initializing source docker://{IMAGE}: Requesting bearer token: received unexpected HTTP status: 403 Forbidden",
    'short-name "worker" did not resolve to an alias and no unqualified-search registries are defined',
    f'failed to pull and unpack image "{IMAGE}": no match for platform in manifest: not found',
    (
        "failed to authorize: failed to fetch oauth token: unexpected status from POST request to "
        "https://registry.example/token: 401 Unauthorized"
    ),
]


@pytest.mark.parametrize("message", REFUSALS)
def test_a_registry_that_refuses_is_fatal_in_every_runtimes_words(message: str) -> None:
    """Docker, containerd and CRI-O say in different words that there is no such image for us."""
    cause = find_cause(waiting("ErrImagePull", message))

    assert cause is not None
    assert cause.fatal
    assert IMAGE in cause.message
    assert message in cause.message


NO_ANSWERS = [
    "pull QPS exceeded",
    "Error response from daemon: toomanyrequests: You have reached your unauthenticated pull rate limit.",
    "Error response from daemon: Get https://registry.example/v2/: dial tcp: lookup registry.example: no such host",
    (
        "Error response from daemon: Get https://registry.example/v2/: net/http: request canceled while waiting for "
        "connection (Client.Timeout exceeded while awaiting headers)"
    ),
    "Error response from daemon: received unexpected HTTP status: 502 Bad Gateway",
    f"pinging container registry registry.example: Get https://registry.example/v2/: EOF ({IMAGE})",
    "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
    "rpc error: code = Unavailable desc = error reading from server: connection reset by peer",
    (
        'failed to do request: Head "https://registry.example/v2/": tls: failed to verify certificate: x509: '
        "certificate signed by unknown authority"
    ),
    (
        "failed to authorize: failed to fetch anonymous token: Get https://registry.example/token: net/http: TLS "
        "handshake timeout"
    ),
    'failed to do request: Head "https://registry.example/v2/": dial tcp 10.0.0.1:443: connect: permission denied',
    "failed to copy: httpReadSeeker: failed open: failed to do request: unexpected EOF",
    "write /layer: no space left on device",
    "something that nobody has seen yet",
]


@pytest.mark.parametrize("message", NO_ANSWERS)
def test_a_registry_that_does_not_answer_is_waited_for(message: str) -> None:
    """Errors other than refusals are transient, unknown messages too."""
    cause = find_cause(waiting("ErrImagePull", message))

    assert cause is not None
    assert not cause.fatal


@pytest.mark.parametrize(
    "image", ["denied", "x/not-found:403", "unauthorized/denied:404", "e:5", "h/denied@sha256:404"]
)
def test_an_images_name_is_no_refusal(image: str) -> None:
    """Words in the name or address of an image are not taken for the registry's."""
    message = f'failed to resolve reference "{image}": failed to do request: Head "https://h/{image}/404": EOF'
    cause = find_cause(waiting("ErrImagePull", message, image))

    assert cause is not None
    assert not cause.fatal


@pytest.mark.parametrize("image", ["timeout:500", "x/unavailable", "e:5", "127.0.0.1:5000/x509:429"])
def test_an_images_name_is_no_silence(image: str) -> None:
    """Nor do they hide a refusal."""
    cause = find_cause(waiting("ErrImagePull", f"pull access denied for {image}: denied", image))

    assert cause is not None
    assert cause.fatal


ENTRYPOINTS = [
    ('exec: "rivers-worker": executable file not found in $PATH: unknown', "rivers-worker was not found"),
    ('exec: "/bin/rivers-worker": stat /bin/rivers-worker: no such file or directory', "/bin/rivers-worker was not"),
    ('exec: "/etc/hostname": permission denied: unknown', "/etc/hostname cannot be executed"),
    (
        "container create failed: executable file `rivers-worker` not found in $PATH: No such file or directory",
        "rivers-worker was not found",
    ),
    (
        (
            'Error response from daemon: OCI runtime create failed: exec: "rivers-worker": '
            "executable file not found in $PATH: unknown: unable to start container process"
        ),
        "rivers-worker was not found",
    ),
    ("failed to generate spec: no command specified", "has no command"),
    ("Error response from daemon: No command specified", "has no command"),
]


@pytest.mark.parametrize(("message", "text"), ENTRYPOINTS)
def test_an_image_without_rivers_worker_is_named(message: str, text: str) -> None:
    """A command that the image lacks is told by its name, with the image, in every runtime's words."""
    told = explain_missing_entrypoint(IMAGE, message)

    assert told is not None
    assert f"{text} in image '{IMAGE}'" in told or text in told
    assert IMAGE in told
    assert message in told


@pytest.mark.parametrize("reason", ["CreateContainerError", "RunContainerError"])
def test_a_container_without_its_command_is_fatal(reason: str) -> None:
    """CRI-O makes the kubelet try again and again where containerd gives up: it is fatal all the same."""
    message = "container create failed: executable file `rivers-worker` not found in $PATH"
    assert find_cause(waiting(reason, message)) == PendingCause(
        reason, explain_missing_entrypoint(IMAGE, message) or "", fatal=True, patience=0.0
    )


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("CreateContainerError", "context deadline exceeded"),
        ("CreateContainerError", 'failed to reserve container name "x": name "x" is reserved for'),
        ("RunContainerError", "failed to create containerd task: disk quota exceeded"),
        ("CreateContainerConfigError", "failed to sync configmap cache: timed out waiting for the condition"),
        ("ImageInspectError", "failed to inspect"),
        ("RegistryUnavailable", "image pull failed because the registry is unavailable"),
        ("SomethingNew", ""),
    ],
)
def test_other_states_are_told_and_waited_for(reason: str, message: str) -> None:
    """A state that may pass, or that nobody knows yet, is told by its word and leaves it to startup_timeout."""
    cause = find_cause(waiting(reason, message))

    assert cause is not None
    assert (reason, False) == (cause.reason, cause.fatal)
    assert message in cause.message
    assert cause.message


# ---- texts ----------------------------------------------------------------------------------------------------------


def test_ids_that_change_with_every_try_are_left_out() -> None:
    """A container's id in the message does not make it another cause each time."""
    message = 'failed to generate container "{}" spec: disk full'
    first = find_cause(waiting("CreateContainerError", message.format("22d5" * 16)))

    assert first == find_cause(waiting("CreateContainerError", message.format("bae0" * 16)))
    assert first is not None
    assert "failed to generate container spec: disk full" == first.message


def test_a_text_is_one_line_of_bounded_length() -> None:
    """A registry's page of HTML becomes one line of at most 2,000 characters and the image's name."""
    cause = find_cause(waiting("ErrImagePull", "<html>\n" + "x\n" * 5000))

    assert cause is not None
    assert "\n" not in cause.message
    assert len(cause.message) < 2100


# ---- init containers, schedulers, events ----------------------------------------------------------------------------


def with_inits(*inits: tuple[str, ContainerState], step: str = "PodInitializing") -> Pod:
    statuses = tuple(ContainerStatus(name=name, image=IMAGE, state=state) for name, state in inits)
    pod = waiting(step)
    return Pod(status=PodStatus(init_container_statuses=statuses, container_statuses=pod.status.container_statuses))


RUNS = ContainerState(running=RunningState())
DONE = ContainerState(terminated=TerminatedState(exit_code=0, reason="Completed"))
PULLS_NEXT = ContainerState(waiting=WaitingState(reason="PodInitializing"))


def test_the_init_container_that_runs_is_named() -> None:
    """Of several init containers the one that runs now is told, after those that stay on as side-cars."""
    cause = find_cause(with_inits(("a", DONE), ("proxy", RUNS), ("c", RUNS), ("d", PULLS_NEXT)))

    assert PendingCause("Initializing", "init container 'c' runs") == cause


def test_side_cars_that_stay_do_not_hold_up_the_worker() -> None:
    """An init container that stays on as a side-car is no cause once the worker's container is on its way."""
    assert find_cause(with_inits(("proxy", RUNS), step="ContainerCreating")) is None


def test_a_later_init_container_that_cannot_start_is_the_cause() -> None:
    """An init container that lacks its ConfigMap is fatal as the worker's own would be."""
    state = ContainerState(waiting=WaitingState(reason="CreateContainerConfigError", message='configmap "c" not found'))
    cause = find_cause(with_inits(("proxy", RUNS), ("setup", state)))

    assert cause is not None
    assert ("CreateContainerConfigError", True, CONFIG_PATIENCE) == (cause.reason, cause.fatal, cause.patience)
    assert cause.message.startswith("init container 'setup': configmap \"c\" not found")


def test_a_side_cars_trouble_is_not_the_workers() -> None:
    """A side-car whose image cannot be pulled does not keep the worker from starting, so it is no cause."""
    proxy = ContainerStatus(
        name="proxy", state=ContainerState(waiting=WaitingState(reason="ErrImagePull", message="denied"))
    )
    pod = waiting("ContainerCreating")
    statuses = (proxy, *pod.status.container_statuses)

    assert find_cause(Pod(status=PodStatus(container_statuses=statuses))) is None


def test_a_scheduler_that_says_nothing_is_told_too() -> None:
    """A pod that was found no node for, without a reason, is unschedulable."""
    condition = Condition(type="PodScheduled", status="False")

    assert PendingCause("Unschedulable", "no node was found for it") == find_cause(
        Pod(status=PodStatus(conditions=(condition,)))
    )


def event(reason: str, message: str, second: int) -> Event:
    return Event(reason=reason, message=message, last_timestamp=f"2026-01-01T00:00:{second:02}Z")


MOUNT = event("FailedMount", 'MountVolume.SetUp failed for volume "d" : secret "nope" not found', 2)


def test_the_last_event_counts_whatever_their_order() -> None:
    """A volume that could be mounted in the end is no cause any more; events come in no particular order."""
    pulling = event("Pulling", "Pulling image", 3)
    started = event("Started", "Started container setup", 4)
    pod = waiting("ContainerCreating")

    assert PendingCause("Pulling", "Pulling image") == find_cause(pod, (pulling, MOUNT))
    assert find_cause(pod, (started, pulling, MOUNT)) is None


@pytest.mark.parametrize(
    ("reason", "message", "fatal"),
    [
        ("FailedMount", "references non-existent secret key: nope", True),
        ("FailedMount", "configmap references non-existent config key: nope", True),
        ("FailedMount", 'object "rivers"/"c" not registered', False),
        ("FailedMount", "failed to sync secret cache: timed out waiting for the condition", False),
        ("FailedAttachVolume", "Multi-Attach error for volume", False),
        ("FailedCreatePodSandBox", "network plugin is not ready", False),
        ("NetworkNotReady", "network is not ready", False),
    ],
)
def test_events_that_explain(reason: str, message: str, fatal: bool) -> None:
    """Events about volumes and the network are causes; only missing objects are fatal."""
    cause = find_cause(waiting("ContainerCreating"), [event(reason, message, 5)])

    assert cause is not None
    assert (reason, fatal) == (cause.reason, cause.fatal)
    assert message in cause.message


@pytest.mark.parametrize(
    "reason", ["MissingClusterDNS", "DNSConfigForming", "Scheduled", "Killing", "FailedScheduling"]
)
def test_events_that_explain_nothing(reason: str) -> None:
    """Noise, progress and what the status tells better are no cause."""
    assert find_cause(Pod(metadata=Metadata(name="p")), [event(reason, "words", 1)]) is None
