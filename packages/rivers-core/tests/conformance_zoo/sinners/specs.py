"""Backends that read specs too strictly, too freely, or against their own declaration."""

from __future__ import annotations

from dataclasses import replace as with_fields
from typing import Any

import msgspec
from msgspec.structs import replace
from sinner import sinner
from zoo_backend import ZooAttempt, ZooBackend
from zoo_worker import Task, work

from rivers.exceptions import SpecDecodeError
from rivers.protocol import PROTOCOL_VERSION, Evidence, LogRecord, PickledRef, StepResult, StepSpec, decode_spec
from rivers.protocol.ref import sign


@sinner("takes a later protocol for its own", "later-protocol-refused", only=True)
class AnyVersion(ZooBackend):
    def submit(self, spec: StepSpec) -> None:
        super().submit(replace(spec, protocol_version=PROTOCOL_VERSION))


def decode_known_fields(data: bytes) -> StepSpec:
    unknown = set(msgspec.msgpack.decode(data)) - {*StepSpec.__struct_fields__, "refs"}
    if unknown:
        raise SpecDecodeError(f"unknown fields {unknown}")
    return decode_spec(data)


def work_known_fields(task: Task, pipe: Any) -> None:
    work(task, pipe, decode=decode_known_fields)


@sinner("refuses unknown fields", "unknown-fields-ignored", only=True)
class KnownFields(ZooBackend):
    work = staticmethod(work_known_fields)


@sinner("declares pickled closures and refuses them", "closures-run", only=True)
class RefusesClosures(ZooBackend):
    can = {"closures": "pickled"}


class Pickles(ZooBackend):
    """Ships closures, and is correct with `can`."""

    can = {"closures": "pickled"}

    def task(self, spec: StepSpec, data: bytes) -> Task:
        return with_fields(super().task(spec, data), key=self.run.key)


@sinner("loads pickles that it declares to refuse", "closures-refused", only=True)
class LoadsPickles(Pickles):
    can = {}


def work_unsigned(task: Task, pipe: Any) -> None:
    def decode(data: bytes) -> StepSpec:
        spec = decode_spec(data)
        is_pickle = isinstance(spec.function, PickledRef)
        return replace(spec, function=sign(spec.function.payload, task.key)) if is_pickle else spec

    work(task, pipe, decode=decode)


@sinner("loads pickles with a wrong signature", "unsigned-pickles-refused", only=True)
class UnsignedPickles(Pickles):
    work = staticmethod(work_unsigned)


@sinner("makes labels of names", "hostile-names", only=True)
class LabelsOfNames(ZooBackend):
    def submit(self, spec: StepSpec) -> None:
        if len(spec.step) > 63:
            raise ValueError(f"invalid label {spec.step!r}: expected at most 63 characters")
        super().submit(spec)


@sinner("sends a preview of large values", "large-values", only=True)
class PreviewsValues(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        for record in result.outputs if result is not None else ():
            if size_in(record.metadata) > 1 << 20:
                for _ in range(6):
                    self.emit(LogRecord(attempt_id=attempt.id, message="x" * 16_000))
        super().finish(attempt, result, evidence)


def size_in(metadata: str | None) -> int:
    return int(msgspec.json.decode(metadata or "{}").get("size_bytes", 0))
