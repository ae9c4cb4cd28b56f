"""Small values on their way between the default store and workers that cannot reach it: in specs and in results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from msgspec.structs import replace

from rivers._definitions.partitions import storage_key
from rivers._io.context import InputContext, OutputContext
from rivers._io.inline.errors import InlineError
from rivers._io.inline.transfer import check_total, make_input
from rivers._io.inline.values import decode_value
from rivers._io.memo import short_version
from rivers._io.shared.default_store import DefaultStore
from rivers._plan.graph import StoredOutput
from rivers._plan.inline import is_inline
from rivers._plan.plan import Step
from rivers._plan.unit import Unit
from rivers._runner.failures import make_failure
from rivers.exceptions import InputLoadError, OutputCommitError, ValueNotFoundError
from rivers.protocol.failure import FailureReason
from rivers.protocol.ref import InlineRef, InlineValue
from rivers.protocol.result import Ending, OutputRecord, StepResult, without_values
from rivers.protocol.spec import CollectInput, OutputMode, PartitionsInput, StepSpec, StoredInput, StreamInput

__all__ = ["InlineValues"]


class InlineValues:
    """The inline values of one run: `attach` puts them into specs, `take` moves them from results to the store.

    Only this side touches the store. So steps in this process and on this machine load the same values from it, and so
    do later runs. `is_remote` says whether a step's IO handlers are built in another process.
    """

    def __init__(self, run_id: str, store: DefaultStore, is_remote: Callable[[Step], bool]) -> None:
        self._run_id = run_id
        self._store = store
        self._is_remote = is_remote

    def attach(self, spec: StepSpec) -> StepSpec:
        """Return the spec with the values of its inputs.

        Raises:
            InputLoadError: one is not stored, or cannot travel inline.
        """
        values: dict[str, InlineValue] = {}
        for key, run_id, is_optional in _inline_inputs(spec):
            if key in values:
                continue
            try:
                value = self._store.load_input(InputContext(key, spec.step, run_id=run_id))
            except ValueNotFoundError:
                if not is_optional:
                    raise
            else:
                values[key] = make_input(key, value, spec.step)
        if not values:
            return spec
        problem = check_total(values.values())
        if problem is not None:
            raise InputLoadError(
                f"the inputs of {spec.step!r} are too many: {problem}",
                hint="give the assets that it loads an io_handler, or the repository a default_io_handler, or run "
                f"{spec.step!r} in the controller: metadata={{'rivers/executor': 'in_process'}}",
            )
        return replace(spec, values=tuple(values.values()))

    def take(self, unit: Unit, result: StepResult) -> StepResult:
        """Store the values of a success and return the result without them, or the failure to store one."""
        bare = without_values(result)
        if result.ending is not Ending.SUCCEEDED or not self._is_remote(unit.step):
            return bare
        outputs = [output for output in unit.step.node.outputs if is_inline(unit.step, output.io_handler)]
        if not outputs:
            return bare
        try:
            versions = self._store_all(unit, outputs, result)
        except OutputCommitError as error:
            failure = make_failure(error, FailureReason.INFRASTRUCTURE, transient=error.retryable)
            return replace(bare, ending=Ending.FAILED, outputs=(), failure=failure)
        if unit.fingerprint is None:
            return bare
        return replace(bare, outputs=tuple([_with_versions(record, versions) for record in bare.outputs]))

    def _store_all(self, unit: Unit, outputs: list[StoredOutput], result: StepResult) -> dict[str, str | None]:
        """Stage the values of all outputs, commit them together, and return their data versions by key."""
        records = {record.name: record for record in result.outputs}
        keys: list[str] = []
        versions: dict[str, str | None] = {}
        try:
            for output in outputs:
                for key, value in _decode(unit, output, records.get(output.name)):
                    keys.append(key)
                    record = records.get(output.name)
                    is_whole = output.mode is OutputMode.VALUE and record is not None
                    context = OutputContext(
                        key,
                        output.metadata,
                        run_id=self._run_id,
                        step=unit.key,
                        attempt=unit.charged + 1,
                        attempt_id=unit.attempt_id,
                        fingerprint=unit.fingerprint,
                        data_version=record.data_version if record is not None and is_whole else None,
                    )
                    self._store.stage(context, value)
                    versions[key] = context.data_version
        except BaseException:
            self._store.discard(self._run_id, unit.key, unit.attempt_id, keys)
            raise
        self._store.commit(self._run_id, unit.key, unit.attempt_id, keys)
        return versions


def _with_versions(record: OutputRecord, versions: Mapping[str, str | None]) -> OutputRecord:
    """Return a record with the versions that its inline values were stored with."""
    if record.map_keys is None:
        return replace(record, data_version=versions.get(record.key) or record.data_version)
    stored = [versions.get(f"{record.key}[{map_key}]") for map_key in record.map_keys]
    if not all(stored):
        # In memory, or with another handler: the worker has given what is known.
        return record
    return replace(record, versions=tuple([short_version(version) for version in stored if version]))


def _inline_inputs(spec: StepSpec) -> Iterator[tuple[str, str | None, bool]]:
    """Yield the storage key and the run of each value that the step loads from its spec, and whether it may lack."""
    for given in (*spec.inputs, *(one for inner in spec.inner for one in inner.inputs)):
        if type(getattr(given, "io_handler", None)) is not InlineRef:
            continue
        if isinstance(given, StoredInput):
            yield given.key, given.run_id, False
        elif isinstance(given, PartitionsInput):
            for key in given.partitions:
                is_made = key == given.partition
                yield storage_key(given.key, key), given.run_id if is_made else None, not is_made
        elif isinstance(given, CollectInput | StreamInput):
            for map_key in given.map_keys:
                yield f"{given.key}[{map_key}]", given.run_id, False


def _decode(unit: Unit, output: StoredOutput, record: OutputRecord | None) -> Iterator[tuple[str, object]]:
    """Yield the key and value of an output or of each of its elements, and what it stores of their mapping keys.

    Raises:
        OutputCommitError: one is missing or cannot be decoded.
    """
    found = {value.key: value.data for value in record.values} if record is not None else {}
    key = output.key if unit.map_key is None else f"{output.key}[{unit.map_key}]"
    map_keys = record.map_keys or () if record is not None else ()
    is_dynamic = output.mode is OutputMode.DYNAMIC
    for name in [f"{key}[{map_key}]" for map_key in map_keys] if is_dynamic else [key]:
        data = found.get(name)
        if data is None:
            # The report of a pod's end has the result without values.
            raise OutputCommitError(f"the value of {name!r} was lost on its way from the worker", step=unit.key)
        try:
            yield name, decode_value(data)
        except InlineError as error:
            failed = OutputCommitError(
                f"the value of {name!r}, which a worker has sent, {error}",
                hint="the controller needs the same packages as the worker",
                step=unit.key,
            )
            failed.retryable = False
            raise failed from error
    if is_dynamic:
        yield f"{key}[]", map_keys
