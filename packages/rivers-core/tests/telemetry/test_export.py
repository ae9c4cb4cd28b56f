"""Spans, metrics and log records of a run, as OTLP receivers over HTTP and gRPC get them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the extra [otel]")
sys.path.append(str(Path(__file__).parent))

from receivers import Received, attributes_of, grpc_receiver, http_receiver

FOLDER = Path(__file__).parent
OWN = {"queued", "boot", "load", "run", "store"}


def run(
    endpoint: str, *arguments: str, program: str = "traced.py", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program with the environment variables of OTLP alone."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **environment}
    done = subprocess.run(
        [sys.executable, str(FOLDER / program), *arguments],
        env={**inherited, **given},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


Serve = Callable[[], AbstractContextManager[tuple[str, Received]]]


@pytest.fixture(scope="module", params=["in_process grpc", "parallel http"])
def traced(request: pytest.FixtureRequest) -> tuple[str, str, Received]:
    """The executor, the id of a traced run, and what the receiver got of it."""
    executor, protocol = request.param.split()
    serve: Serve = grpc_receiver if protocol == "grpc" else http_receiver
    more = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"} if protocol == "grpc" else {}
    with serve() as (endpoint, received):
        done = run(endpoint, executor, OTEL_SERVICE_NAME="shop", **more)
    assert done.stderr == ""
    run_id, status = done.stdout.split()[-2:]
    assert status == "failure"
    return executor, run_id, received


def test_run_span(traced: tuple[str, str, Received]) -> None:
    """The run is the root, with the conventions for pipelines; everything is in its trace and of the named service."""
    _, run_id, received = traced
    root = received.one("RUN daily")
    found = attributes_of(root)

    assert root.parent_span_id == b""
    assert found["cicd.pipeline.run.id"] == run_id
    assert (found["cicd.pipeline.name"], found["cicd.pipeline.result"]) == ("daily", "failure")
    assert found["rivers.run.tag.team"] == "shop"
    assert {root.trace_id} == {span.trace_id for span in received.spans}
    assert set(received.services.values()) == {"shop"}


def test_step_and_attempt_spans(traced: tuple[str, str, Received]) -> None:
    """A step is a child of the run, its attempt of the step, and the phases of the attempt, each within its parent."""
    executor, _, received = traced
    root, step = received.one("RUN daily"), received.one("numbers")
    (attempt,) = received.children(step)
    phases = [span for span in received.children(attempt) if span.name in OWN]
    found, placed = attributes_of(step), attributes_of(attempt)

    assert step.parent_span_id == root.span_id
    assert found["cicd.pipeline.task.run.result"] == "success"
    assert (found["rivers.step.group"], found["rivers.step.kinds"]) == ("source", ["python"])
    assert found["code.function.name"] == "traced.numbers"
    assert found["code.file.path"].endswith("traced.py")
    assert (placed["rivers.executor"], placed["rivers.attempt.number"]) == (executor, 1)
    assert placed["process.pid"] > 0
    assert {"run", "store"} <= {span.name for span in phases}
    for inner, outer in [(step, root), (attempt, step), *((phase, attempt) for phase in phases)]:
        assert outer.start_time_unix_nano <= inner.start_time_unix_nano
        assert inner.end_time_unix_nano <= outer.end_time_unix_nano


def test_spans_of_bodies_nest_under_their_attempt(traced: tuple[str, str, Received]) -> None:
    """A span that a body makes, sync, async or mapped, in whatever process, is a child of its attempt's span."""
    executor, _, received = traced

    for name, step in (("query", "numbers"), ("await", "waits")):
        (attempt,) = received.children(received.one(step))
        assert received.one(name).parent_span_id == attempt.span_id
    attempts = {received.children(step)[0].span_id for step in received.named("total/twice")}
    doubles = [span for span in received.named("double") if span.parent_span_id in attempts]
    assert len(attempts) == len(doubles) == 2
    if executor == "parallel":
        # The tasks of a graph asset that runs as one step, in one worker.
        (attempt,) = received.children(received.one("fused"))
        assert [span.name for span in received.children(attempt)].count("double") == 2


def test_failures_and_retries(traced: tuple[str, str, Received]) -> None:
    """A failed attempt has the exception, the next one links to it, and what depends on it is skipped."""
    _, _, received = traced
    step = received.one("fails")
    first, second = received.children(step)

    for span in (first, second):
        assert span.status.code == 2
        assert attributes_of(span)["error.type"] == "ValueError"
        (event,) = span.events
        assert event.name == "exception"
        assert attributes_of(event)["exception.message"] == "*** is refused"
        assert "traced.py" in attributes_of(event)["exception.stacktrace"]
    assert [link.span_id for link in second.links] == [first.span_id]
    assert attributes_of(step)["cicd.pipeline.task.run.result"] == "failure"
    assert attributes_of(received.one("skipped"))["rivers.step.cause"] == "fails"


def test_log_records_have_the_trace_of_their_attempt(traced: tuple[str, str, Received]) -> None:
    """What a body logs and prints is exported with the trace and the span of its attempt."""
    _, _, received = traced
    for step, message in (("numbers", "the token is ***"), ("waits", "printed")):
        (attempt,) = received.children(received.one(step))
        (record,) = [record for record in received.logs if record.body.string_value == message]
        assert (record.trace_id, record.span_id) == (attempt.trace_id, attempt.span_id)
        assert attributes_of(record)["rivers.step.key"] == step
    # Tracing itself changes nothing in a worker that rivers would warn of.
    assert {record.body.string_value for record in received.logs} == {"the token is ***", "printed"}


def test_metrics(traced: tuple[str, str, Received]) -> None:
    """Steps by state, retries and failures by reason, durations and queue times."""
    executor, _, received = traced
    names = {name for name, _ in received.metrics}

    assert received.count("rivers.steps", rivers_step_state="failed") == 1
    assert received.count("rivers.steps", rivers_step_state="skipped") == 1
    assert received.count("rivers.steps") == (8 if executor == "in_process" else 9)
    assert received.count("rivers.retries", rivers_failure_reason="error") == 1
    assert received.count("rivers.failures", rivers_failure_reason="error") == 2
    assert received.count("rivers.steps.running") == 0
    assert {"rivers.step.duration", "rivers.step.queue.duration", "cicd.pipeline.run.duration"} <= names


def test_no_secrets(traced: tuple[str, str, Received]) -> None:
    """A secret that the controller knows is in nothing that is exported."""
    assert b"tok-12345" not in traced[2].raw


@pytest.mark.parametrize("switch", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}], ids=str)
def test_off(switch: dict[str, str]) -> None:
    """Without an endpoint, or disabled, nothing is exported, and nothing of OpenTelemetry imported."""
    with http_receiver() as (endpoint, received):
        done = run(endpoint, program="untraced.py", **switch)

    assert received.raw == b""
    assert done.stdout == "[]\n"


def test_dead_collector() -> None:
    """A collector that does not listen costs a bounded time and one warning; the run ends as without it."""
    done = run("http://user:tok-12345@127.0.0.1:9", "parallel", OTEL_EXPORTER_OTLP_TIMEOUT="1")

    assert done.stdout.split()[-1] == "failure"
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("telemetry of the run is lost: exporting traces to 127.0.0.1:9 failed")


def test_silent_collector() -> None:
    """A collector that accepts and does not answer costs the deadline of the last export."""
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = run(f"http://127.0.0.1:{silent.getsockname()[1]}", "in_process")

    assert time.monotonic() - began < 20
    assert done.stdout.split()[-1] == "failure"
    assert re.search(r"telemetry of the run is lost: 127.0.0.1:\d+ has not answered within 5 s", done.stderr)


def test_provider_of_the_program() -> None:
    """A provider that the program has configured is used, and its current span is the parent of the run."""
    done = run("", program="configured.py")

    assert done.stdout.splitlines() == ["RUN < request", "attempt 1 < numbers", "body < attempt 1", "numbers < RUN"]


def test_provider_that_raises() -> None:
    """A tracer of the program that raises is a warning, and the run goes on without it."""
    done = run("", "broken", program="configured.py")

    assert done.stdout == "success\n"
    assert "attempts are not traced any more: OSError: out of luck" in done.stderr


def test_protocol_that_is_not_installed() -> None:
    """A protocol whose package is missing is a warning for each signal, once for the process."""
    done = run("http://127.0.0.1:9", program="untraced.py", OTEL_EXPORTER_OTLP_PROTOCOL="grpc", RIVERS_TEST_HIDE="grpc")

    assert done.stderr.count("traces are not exported: ModuleNotFoundError") == 1
    assert done.stderr.count("are not exported") == 3


def test_missing_packages() -> None:
    """Where the SDK is not installed, the run goes on with one warning for the process."""
    done = run("http://127.0.0.1:9", program="untraced.py", RIVERS_TEST_HIDE="opentelemetry")

    assert done.stderr.count("install rivers-core[otel]") == 1


def test_pods(tmp_path: Path) -> None:
    """A span of a body in a pod nests under its attempt, which names the pod, and the start of the pod is a phase."""
    pytest.importorskip("rivers_executor_k8s", reason="needs rivers-executor-k8s")
    pytest.importorskip("rivers_k8s_testing", reason="needs rivers-k8s-testing")
    with http_receiver() as (endpoint, received):
        done = run(endpoint, str(tmp_path), program="pods.py")

    (attempt,) = received.children(received.one("numbers"))
    assert received.one("query").parent_span_id == attempt.span_id
    assert attributes_of(attempt)["k8s.pod.name"] == done.stdout.strip()
    assert "boot" in {span.name for span in received.children(attempt)}
