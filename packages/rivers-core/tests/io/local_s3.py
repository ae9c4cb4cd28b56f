"""A real HTTP server that speaks enough S3 for the stores under test."""

from __future__ import annotations

import hashlib
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Fault:
    """A fault of the next matching requests: answer `status`, or with `after` act first, then close the connection."""

    def __init__(self, method: str, path: str, status: int, times: int, after: bool, code: str) -> None:
        self.method, self.path, self.status, self.times, self.after = method, re.compile(path), status, times, after
        self.code = code

    def hits(self, method: str, path: str) -> bool:
        if self.times == 0 or self.method not in (method, "*") or not self.path.search(path):
            return False
        self.times -= 1
        return True


class S3Server(ThreadingHTTPServer):
    """Objects in memory behind S3's REST interface: get, head, put (conditional, copy, parts), delete, list."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), S3Requests)
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.lock = threading.Lock()
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []

    def fail(
        self,
        method: str,
        path: str = "",
        *,
        status: int = 503,
        times: int = -1,
        after: bool = False,
        code: str = "Injected",
    ) -> None:
        self.faults.append(Fault(method, path, status, times, after, code))

    def store(self, **options: Any) -> dict[str, Any]:
        """Return the store argument of a PickleIOHandler that reaches this server."""
        return {
            "url": "s3://bucket/base",
            "config": {
                "endpoint": f"http://127.0.0.1:{self.server_port}",
                "region": "local",
                "skip_signature": "true",
            },
            "client_options": {"allow_http": "true"},
            "retry_config": {"max_retries": 2, "backoff": {"init_backoff": 0.001, "max_backoff": 0.002, "base": 2}},
            **options,
        }


class S3Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: S3Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        name = unquote(url.path).removeprefix("/bucket").removeprefix("/")
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        kind = "COPY" if self.headers.get("x-amz-copy-source") else self.command
        self.server.requests.append((kind, name))
        fault = next((fault for fault in self.server.faults if fault.hits(kind, name)), None)
        if fault is not None and not fault.after:
            self.answer(fault.status, f"<Error><Code>{fault.code}</Code></Error>".encode())
            return
        with self.server.lock:
            status, answer, headers = self.act(kind, name, parse_qs(url.query, keep_blank_values=True), body)
        if fault is not None:
            self.close_connection = True
            self.connection.close()
            return
        self.answer(status, answer, headers)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def act(self, kind: str, name: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        objects = self.server.objects
        now = datetime.now(UTC)
        if kind == "POST" and "delete" in query:
            for found in re.findall(rb"<Key>(.*?)</Key>", body):
                objects.pop(found.decode(), None)
            return 200, b"<DeleteResult></DeleteResult>", {}
        if kind == "POST" and "uploads" in query:
            upload = uuid.uuid4().hex
            self.server.parts[upload] = {}
            return 200, f"<R><Bucket>bucket</Bucket><Key>k</Key><UploadId>{upload}</UploadId></R>".encode(), {}
        if kind == "PUT" and "partNumber" in query:
            self.server.parts[query["uploadId"][0]][int(query["partNumber"][0])] = body
            return 200, b"", {"ETag": '"part"'}
        if kind == "POST":
            parts = self.server.parts.pop(query["uploadId"][0])
            objects[name] = (b"".join(parts[number] for number in sorted(parts)), now)
            return 200, b"<R><Location>l</Location><Bucket>b</Bucket><Key>k</Key><ETag>e</ETag></R>", {}
        if kind == "PUT":
            if self.headers.get("if-none-match") == "*" and name in objects:
                return 412, b"<Error><Code>PreconditionFailed</Code></Error>", {}
            objects[name] = (body, now)
            return 200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}
        if kind == "COPY":
            source = unquote(self.headers["x-amz-copy-source"]).removeprefix("/").removeprefix("bucket/")
            if source not in objects:
                return 404, b"<Error><Code>NoSuchKey</Code></Error>", {}
            objects[name] = (objects[source][0], now)
            return 200, b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>", {}
        if kind == "DELETE":
            objects.pop(name, None)
            return 204, b"", {}
        if "list-type" in query:
            given = {name: query.get(name, [""])[0] for name in ("prefix", "delimiter", "start-after")}
            return 200, self.listing(given["prefix"], given["delimiter"], given["start-after"]), {}
        if name not in objects:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>", {}
        return self.get(name)

    def get(self, name: str) -> tuple[int, bytes, dict[str, str]]:
        data, modified = self.server.objects[name]
        headers = {
            "ETag": f'"{hashlib.md5(data).hexdigest()}"',
            "Last-Modified": modified.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range") or "")
        if wanted is None:
            return 200, data, headers
        start, end = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        return 206, data[start : end + 1], headers

    def listing(self, prefix: str, delimiter: str, after: str) -> bytes:
        contents, folders = [], set()
        for name, (data, modified) in sorted(self.server.objects.items()):
            if not name.startswith(prefix) or name <= after:
                continue
            head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if cut:
                folders.add(prefix + head + delimiter)
            else:
                contents.append(
                    f"<Contents><Key>{escape(name)}</Key><LastModified>{modified.isoformat()}</LastModified>"
                    f"<ETag>e</ETag><Size>{len(data)}</Size></Contents>"
                )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)
        )
        return (
            f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(contents)}{common}</ListBucketResult>".encode()
        )

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serve_s3() -> Iterator[S3Server]:
    """Serve an empty bucket."""
    with S3Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
