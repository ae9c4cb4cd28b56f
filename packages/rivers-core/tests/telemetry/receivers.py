"""An OTLP/HTTP and an OTLP/gRPC receiver that keep what they are sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


def plain(value: Any) -> Any:
    """The value of an attribute."""
    kind = value.WhichOneof("value")
    return [plain(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def attributes_of(owner: Any) -> dict[str, Any]:
    return {pair.key: plain(pair.value) for pair in owner.attributes}


class Received:
    """What a receiver was sent: spans, points of metrics and log records, as the messages of OTLP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: dict[bytes, str] = {}
        self.metrics: dict[tuple[str, str], tuple[dict[str, Any], Any]] = {}
        self.logs: list[Any] = []
        self.raw = b""

    def take(self, request: Any) -> None:
        self.raw += request.SerializeToString()
        for resource in getattr(request, "resource_spans", ()):
            for scope in resource.scope_spans:
                self.spans += scope.spans
                for span in scope.spans:
                    self.services[span.span_id] = attributes_of(resource.resource)["service.name"]
        for resource in getattr(request, "resource_logs", ()):
            for scope in resource.scope_logs:
                self.logs += scope.log_records
        for resource in getattr(request, "resource_metrics", ()):
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in getattr(metric, metric.WhichOneof("data")).data_points:
                        found = attributes_of(point)
                        # Sums are cumulative: the last point of a time series has all of it.
                        self.metrics[metric.name, str(found)] = (found, point)

    def named(self, name: str) -> list[Any]:
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time_unix_nano)

    def one(self, name: str) -> Any:
        (span,) = self.named(name)
        return span

    def children(self, parent: Any) -> list[Any]:
        found = [span for span in self.spans if span.parent_span_id == parent.span_id]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def count(self, metric: str, **wanted: str) -> float:
        """The sum of a counter's points with these attributes, whose names are written with underscores."""
        return sum(
            point.as_int or point.as_double
            for (name, _), (attributes, point) in self.metrics.items()
            if name == metric and all(attributes.get(key.replace("_", ".")) == value for key, value in wanted.items())
        )


REQUESTS = {
    "/v1/traces": trace_service_pb2.ExportTraceServiceRequest,
    "/v1/metrics": metrics_service_pb2.ExportMetricsServiceRequest,
    "/v1/logs": logs_service_pb2.ExportLogsServiceRequest,
}


@contextmanager
def http_receiver() -> Iterator[tuple[str, Received]]:
    """Serve OTLP/HTTP on loopback."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            received.take(REQUESTS[self.path].FromString(data))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def grpc_receiver() -> Iterator[tuple[str, Received]]:
    """Serve OTLP/gRPC on loopback."""
    received = Received()
    server = grpc.server(ThreadPoolExecutor(2))
    services = (
        (trace_service_pb2, trace_service_pb2_grpc, "Trace"),
        (metrics_service_pb2, metrics_service_pb2_grpc, "Metrics"),
        (logs_service_pb2, logs_service_pb2_grpc, "Logs"),
    )
    for messages, stubs, name in services:
        response = getattr(messages, f"Export{name}ServiceResponse")

        class Servicer:
            def Export(self, request: Any, context: Any, response: Any = response) -> Any:
                received.take(request)
                return response()

        getattr(stubs, f"add_{name}ServiceServicer_to_server")(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", received
    finally:
        server.stop(None).wait()
