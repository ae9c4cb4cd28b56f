"""Values that travel inline: to workers that know them, and not to older ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from scripted_worker import RESULT, SPEC, ScriptedWorker, closing, run, serving
from served_worker import Served

from rivers.exceptions import SpecVersionError
from rivers.protocol import InlineRef, InlineValue, Output, StoredInput
from rivers_worker.client import outcome_in
from rivers_worker.v1 import worker_pb2 as pb

INLINE = InlineRef()
READER = replace(
    SPEC,
    inputs=(StoredInput(parameter="a", key="a", io_handler=INLINE),),
    values=(InlineValue(key="a", data=b"\x01"),),
)
WRITER = replace(SPEC, outputs=(Output(name="a", key="a", io_handler=INLINE),))


def reply(minor: int, *problems: pb.Problem) -> Any:
    """A handshake of a worker of this minor version."""

    async def handshake(request: Any, context: Any) -> pb.HandshakeReply:
        found = problems if request.specs else ()
        return pb.HandshakeReply(protocol_version=1, minor_version=minor, rivers_version="0.0.9", problems=found)

    return handshake


@pytest.mark.parametrize("spec", [READER, WRITER], ids=["reader", "writer"])
def test_an_older_worker(spec: Any) -> None:
    """An older worker is given no inline value, and the error names its version and what to do."""

    async def test() -> None:
        async with serving(ScriptedWorker(handshake=reply(0))) as worker, closing(worker.client()) as client:
            await client.connect()
            with pytest.raises(SpecVersionError, match=r"0\.0\.9 does not know that yet") as raised:
                await client.execute(spec, [].append)
            assert "inline_values=True" in str(raised.value.hint)
            assert [] == worker.called("execute")
            assert RESULT == await client.execute(SPEC, [].append)

    run(test)


def test_preflight_of_an_older_worker() -> None:
    """Preflight finds it before the run, at the specs in question; what the worker reports of others stays."""
    problems = pb.Problem(spec=0, message="no such module"), pb.Problem(spec=1, message="expected one of import")

    async def test() -> None:
        async with serving(ScriptedWorker(handshake=reply(0, *problems))) as worker, closing(worker.client()) as client:
            found = await client.check([SPEC, READER, WRITER])
            assert [0, 1, 2] == [at for at, _ in found]
            assert "no such module" == found[0][1]
            assert all("does not know that yet (use an image" in text for _, text in found[1:])

    run(test)


def test_a_worker_of_today() -> None:
    """A worker that knows them gets them."""

    async def test() -> None:
        async with serving(ScriptedWorker(handshake=reply(1))) as worker, closing(worker.client()) as client:
            await client.connect()
            assert [] == await client.check([READER])
            assert RESULT == await client.execute(READER, [].append)

    run(test)


def test_termination_message(serve: Callable[..., Served]) -> None:
    """A value is in the result alone: everybody who may list pods reads the termination message."""
    worker = serve()
    result = worker.result(worker.spec("quick", outputs=(Output(name="quick", key="quick", io_handler=INLINE),)))
    left = outcome_in(worker.termination, worker.attempt_id)
    worker.ack()

    assert (InlineValue(key="quick", data=b"\x07"),) == result.outputs[0].values
    assert left is not None
    assert replace(result, outputs=(replace(result.outputs[0], values=()),)) == left
