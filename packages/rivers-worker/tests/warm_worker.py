"""A `rivers-worker serve --max-attempts` for tests of what its attempts leave behind."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
import uuid
from pathlib import Path
from typing import Any

from isolated import prefix
from served_worker import Served, told

from rivers.protocol import LogSettings, StepEvent, StepResult
from rivers_worker.v1 import worker_pb2 as pb


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class WarmWorker(Served):
    """A worker, with what its first attempt has seen, and with folders of its own, which are removed at the end."""

    def __init__(self, kind: str, **environment: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="rivers-warm-"))
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "kept").write_text("kept")
        given = {
            "LEFT_SCRATCH": f"{folder}/scratch",
            "LEFT_OUTSIDE": f"{folder}/outside",
            "LEFT_PORT": str(free_port()),
            "LEFT_CONTAINER": "1" if kind == "container" else "",
            "TMPDIR": f"{folder}/scratch",
            "RIVERS_SCRATCH": f"{folder}/scratch",
            "RIVERS_MODULES": "leaves_behind",
            **environment,
        }
        super().__init__(folder, "--max-attempts", "1000", prefix=prefix(kind, folder), **given)
        with contextlib.ExitStack() as failed:
            failed.callback(self.close)
            self.announced()
            self.first_look = self.look()[0]
            failed.pop_all()

    def attempt(self, body: str) -> tuple[StepEvent | pb.Lost, pb.AckReply]:
        """Run an attempt of its own of a body, whose output is the worker's, to the end of its clean-up."""
        self.attempt_id = uuid.uuid4().hex
        last = self.run(self.spec(body, "leaves_behind", logs=LogSettings()))[-1]
        return told([last])[0], self.ack(last.seq)

    def look(self) -> tuple[Any, pb.AckReply]:
        """Run an attempt that looks around; return what it has seen."""
        result, reply = self.attempt("look")
        assert isinstance(result, StepResult) and result.failure is None, (result, self.errors)
        return json.loads(self.notes[-1]), reply

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)
