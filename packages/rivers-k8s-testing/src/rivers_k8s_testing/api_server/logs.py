"""Serve the output of a pod's container, the subresource `pods/log`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from rivers_k8s_testing.api_errors import ApiStatusError, ResourceRef
from rivers_k8s_testing.api_server.calls import ApiCall, Response, StreamResponse
from rivers_k8s_testing.node.container import find_step_container
from rivers_k8s_testing.node.kubelet import PodRuntime

__all__ = ["read_log"]

_TEXT = {"Content-Type": "text/plain"}
PIECE = 64 * 1024
# Seconds between two reads of a log that is followed
LOOK = 0.005


def read_log(call: ApiCall, pod: Mapping[str, Any], runtime: PodRuntime | None) -> Response | StreamResponse:
    """Return the response to a request for a log.

    Raises:
        ApiStatusError: the container does not exist or has not started, its node is lost, or an option is invalid.
    """
    tail, limit = _options(call)
    container = call.query.get("container") or find_step_container(pod)["name"]
    if container not in {known["name"] for known in pod["spec"]["containers"]}:
        raise ApiStatusError(400, f"container {container} is not valid for pod {call.where.name}")
    if runtime is None:
        return Response(200, b"", _TEXT)  # a stubbed pod has no process
    # The API server reads logs from the kubelet's port, which does not answer on a lost node.
    if runtime.lost:
        url = f"https://127.0.0.1:10250/containerLogs/{call.namespace}/{call.where.name}/{container}"
        raise ApiStatusError(500, f'Get "{url}": dial tcp 127.0.0.1:10250: connect: no route to host', "")
    if runtime.container is None:
        raise ApiStatusError(400, _not_started(container, call.where.name, pod))
    if container != find_step_container(pod)["name"]:
        return Response(200, b"", _TEXT)
    written = runtime.log.read_bytes() if runtime.log.exists() else b""
    begin = _tail_begin(written, tail)
    if call.flag("follow"):
        return StreamResponse(_follow(runtime, begin, limit), "text/plain")
    return Response(200, written[begin:][:limit], _TEXT)


def _options(call: ApiCall) -> tuple[int | None, int | None]:
    tail, limit = call.number("tailLines"), call.number("limitBytes")
    where = ResourceRef("pods", "PodLogOptions", name=call.where.name)
    if tail is not None and tail < 0:
        wrong = f"Invalid value: {tail}: must be greater than or equal to 0"
        raise where.invalid(("tailLines", "FieldValueInvalid", wrong))
    if limit is not None and limit < 1:
        raise where.invalid(("limitBytes", "FieldValueInvalid", f"Invalid value: {limit}: must be greater than 0"))
    return tail, limit


def _not_started(container: str, name: str, pod: Mapping[str, Any]) -> str:
    for known in pod["status"].get("containerStatuses", ()):
        if known["name"] == container and "waiting" in known["state"]:
            reason = known["state"]["waiting"]["reason"]
            return f'container "{container}" in pod "{name}" is waiting to start: {reason}'
    return f'container "{container}" in pod "{name}" is not available'


def _tail_begin(written: bytes, lines: int | None) -> int:
    """Return the offset at which the last so many lines begin."""
    if lines is None:
        return 0
    if lines == 0:
        return len(written)
    begin = len(written) - written.endswith(b"\n")
    for _ in range(lines):
        begin = written.rfind(b"\n", 0, begin)
        if begin < 0:
            return 0
    return begin + 1


async def _follow(runtime: PodRuntime, begin: int, limit: int | None) -> AsyncIterator[bytes]:
    """Yield the log and its growth until the container has ended or the limit is reached."""
    left = float("inf") if limit is None else limit
    if not runtime.log.exists():
        return  # the pod was removed between the answer's head and its body
    with runtime.log.open("rb") as log:
        log.seek(begin)
        while left > 0:
            # Read the state before the file: output written in between is found by the last read.
            ran = runtime.container is not None and runtime.container.runs
            while left > 0 and (piece := log.read(int(min(PIECE, left)))):
                left -= len(piece)
                yield piece
            if not ran:
                return
            await asyncio.sleep(LOOK)
