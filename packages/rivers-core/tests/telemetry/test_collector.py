"""A run is taken by the OpenTelemetry Collector, over HTTP and gRPC; `nox -s collector` builds it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
COLLECTOR = os.environ.get("RIVERS_TEST_COLLECTOR", "")
pytestmark = pytest.mark.skipif(not COLLECTOR, reason="RIVERS_TEST_COLLECTOR names no collector: nox -s collector")

CONFIG = """\
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{http}"}}
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
exporters:
  debug: {{verbosity: detailed, sampling_initial: 100000}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
    metrics: {{receivers: [otlp], exporters: [debug]}}
    logs: {{receivers: [otlp], exporters: [debug]}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[tuple[dict[str, int], Path]]:
    """A running collector: its ports by protocol, and the file with what it has received."""
    ports = {"http/protobuf": free_port(), "grpc": free_port()}
    config, output = tmp_path / "config.yaml", tmp_path / "received.txt"
    config.write_text(CONFIG.format(http=ports["http/protobuf"], grpc=ports["grpc"]), encoding="utf-8")
    with output.open("wb") as file:
        process = subprocess.Popen([COLLECTOR, "--config", f"file:{config}"], stdout=file, stderr=file)
        try:
            deadline = time.monotonic() + 20
            while "Everything is ready" not in output.read_text(encoding="utf-8"):
                assert process.poll() is None, output.read_text(encoding="utf-8")
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield ports, output
        finally:
            process.terminate()
            process.wait(10)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_collector_takes_a_run(collector: tuple[dict[str, int], Path], protocol: str) -> None:
    """Spans of controller and workers, metrics and log records arrive, with the ids that belong together."""
    ports, output = collector
    given = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{ports[protocol]}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
    }
    done = subprocess.run(
        [sys.executable, str(FOLDER / "traced.py"), "parallel"],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stderr == ""
    text = output.read_text(encoding="utf-8")

    spans = {
        (name, span): (trace, parent)
        for trace, parent, span, name in re.findall(
            r"Trace ID +: (\w+)\n +Parent ID +: (\w*)\n +ID +: (\w+)\n +Name +: (.+)", text
        )
    }
    parents = {span: name for name, span in spans}
    named = {name: parents.get(parent, "") for (name, _), (_, parent) in spans.items()}
    assert len({trace for trace, _ in spans.values()}) == 1
    assert (named["RUN daily"], named["numbers"], named["query"]) == ("", "RUN daily", "attempt 1")
    assert "-> Name: rivers.steps\n" in text
    record = re.search(r"Body: Str\(the token is \*\*\*\)(?:\n.*?)*?Trace ID: (\w+)\n *Span ID: (\w+)", text)
    assert record is not None
    assert parents[record[2]] == "attempt 1"
    assert "tok-12345" not in text
