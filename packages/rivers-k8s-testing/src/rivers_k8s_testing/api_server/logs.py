"""The output of a pod's container, as `pods/log` serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from rivers_k8s_testing.api_server.calls import Answer, Call, Streamed
from rivers_k8s_testing.node.container import step_container
from rivers_k8s_testing.node.kubelet import Life
from rivers_k8s_testing.refusals import Refusal, Where

__all__ = ["log_of"]

_TEXT = {"Content-Type": "text/plain"}
PIECE = 64 * 1024
# Seconds between two looks at a log that is followed
LOOK = 0.005


def log_of(call: Call, pod: Mapping[str, Any], life: Life | None) -> Answer | Streamed:
    """The answer to a request for a log.

    Raises:
        Refusal: the container is not there or has not started, the node does not answer, or an option is wrong.
    """
    tail, limit = _options(call)
    container = call.query.get("container") or step_container(pod)["name"]
    if container not in {known["name"] for known in pod["spec"]["containers"]}:
        raise Refusal(400, f"container {container} is not valid for pod {call.where.name}")
    if life is None:
        return Answer(200, b"", _TEXT)  # a stubbed pod says nothing
    if life.lost:
        url = f"https://127.0.0.1:10250/containerLogs/{call.namespace}/{call.where.name}/{container}"
        raise Refusal(500, f'Get "{url}": dial tcp 127.0.0.1:10250: connect: no route to host', "")
    if life.container is None:
        raise Refusal(400, _not_started(container, call.where.name, pod))
    if container != step_container(pod)["name"]:
        return Answer(200, b"", _TEXT)
    written = life.log.read_bytes() if life.log.exists() else b""
    begin = _tail_begin(written, tail)
    if call.flag("follow"):
        return Streamed(_followed(life, begin, limit), "text/plain")
    return Answer(200, written[begin:][:limit], _TEXT)


def _options(call: Call) -> tuple[int | None, int | None]:
    tail, limit = call.number("tailLines"), call.number("limitBytes")
    where = Where("pods", "PodLogOptions", name=call.where.name)
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
    """Where the last so many lines begin."""
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


async def _followed(life: Life, begin: int, limit: int | None) -> AsyncIterator[bytes]:
    """What is in the log and what comes, until the container has ended or the limit is reached."""
    left = float("inf") if limit is None else limit
    if not life.log.exists():
        return  # the pod was removed between the answer's head and its body
    with life.log.open("rb") as log:
        log.seek(begin)
        while left > 0:
            ran = life.container is not None and life.container.runs
            while left > 0 and (piece := log.read(int(min(PIECE, left)))):
                left -= len(piece)
                yield piece
            if not ran:
                return
            await asyncio.sleep(LOOK)
