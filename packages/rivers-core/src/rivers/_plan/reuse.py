"""Decide which units are unchanged, by the memos of stored values. It does no I/O: the memos were read before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from rivers._io.memo import Memo, short_version
from rivers._io.pickle import PickleIOHandler
from rivers._plan.fingerprint import UNKNOWN, explain, is_same, make_fingerprint
from rivers._plan.graph import Source, StoredOutput
from rivers._plan.identity import StepIdentity
from rivers._plan.partitions import loaded_keys
from rivers._plan.plan import Step
from rivers._plan.unit import Group, Unit
from rivers.protocol.result import OutputRecord
from rivers.protocol.spec import OutputMode

__all__ = ["Reuse", "StoredMemos"]


@dataclass(frozen=True, slots=True)
class StoredMemos:
    """The memos of stored values by storage key, and the mapping keys of stored elements by the key of their output.

    `unreadable` are the keys of partitions that are stored, but cannot be read.
    """

    memos: dict[str, Memo] = field(default_factory=dict)
    elements: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)


class Reuse:
    """The comparison of one run's units with what is stored.

    `identities` are those of the plan's steps, by index; steps in `skippable` need not run if they are unchanged. The
    versions of values that the run makes are taken from its results.
    """

    def __init__(self, identities: Mapping[int, StepIdentity], skippable: Collection[int], stored: StoredMemos) -> None:
        self._identities = identities
        self._skippable = skippable
        self._stored = stored
        self._memos: dict[str, Memo] = {}
        self._made: set[str] = set()

    def find(self, unit: Unit, groups: Mapping[int, Group]) -> tuple[OutputRecord, ...] | None:
        """Return the stored outputs of a unit that is unchanged, else None; set the unit's fingerprint.

        Call it once the upstreams of the unit have ended.
        """
        unit.fingerprint, _ = self._fingerprint(unit, groups)
        if unit.step.index not in self._skippable:
            # It runs, and stores its memo for what is downstream and for later runs.
            return None
        outputs: list[OutputRecord] = []
        attempts: set[str] = set()
        for output in unit.step.node.outputs:
            record = self._find_output(output, _suffix(unit), unit.fingerprint, attempts)
            if record is None:
                return None
            outputs.append(record)
        # Two attempts of a step that is not deterministic may have stored outputs that do not fit together.
        return tuple(outputs) if len(attempts) == 1 else None

    def note(self, unit: Unit, outputs: Collection[OutputRecord], attempt_id: str) -> None:
        """Take the versions of what a unit has stored, or of what was found to be unchanged."""
        for record in outputs:
            version = record.data_version
            self._memos[record.key] = Memo(attempt_id, short_version(version) if version else attempt_id)
            versions = record.versions or ()
            for index, map_key in enumerate(record.map_keys or ()):
                of_element = versions[index] if index < len(versions) else attempt_id
                self._memos[f"{record.key}[{map_key}]"] = Memo(attempt_id, of_element)

    def attempt_of(self, unit: Unit) -> str:
        """Return the attempt that has stored the outputs of an unchanged unit."""
        first = unit.step.node.outputs[0]
        key = first.key + _suffix(unit)
        return self._stored.memos[f"{key}[]" if first.mode is OutputMode.DYNAMIC else key].attempt_id

    def reasons(self, unit: Unit, groups: Mapping[int, Group]) -> tuple[str, ...]:
        """Return why a unit is not unchanged, in words."""
        wanted, unknown = self._fingerprint(unit, groups)
        if unit.step.index not in self._skippable:
            return ("skip_unchanged=False",)
        if unknown:
            return (unknown,)
        for output in unit.step.node.outputs:
            key = output.key + _suffix(unit)
            memo = self._stored.memos.get(f"{key}[]" if output.mode is OutputMode.DYNAMIC else key)
            if memo is None:
                return (f"`{key}` is not stored with a memo",)
            if memo.fingerprint is None:
                return (f"`{key}` was stored by a run without skip_unchanged",)
            if memo.fingerprint == UNKNOWN:
                return (f"`{key}` was stored by a step that could not be compared",)
            if not is_same(memo.fingerprint, wanted):
                return explain(memo.fingerprint, wanted)
        return ("its outputs were stored by several attempts",)

    def _fingerprint(self, unit: Unit, groups: Mapping[int, Group]) -> tuple[str, str]:
        """Return a unit's fingerprint, and why it cannot be compared."""
        identity = self._identities[unit.step.index]
        if identity.unknown:
            return UNKNOWN, identity.unknown
        inputs: list[tuple[str, str, str]] = []
        for source, name in identity.inputs:
            version = self._version(source, unit, groups)
            if version is None:
                return UNKNOWN, f"input `{name}`: the version of `{source.key}` is not known"
            inputs.append(("i", name, version))
        for key in identity.order:
            memo = self._memo(key)
            if memo is None:
                return UNKNOWN, f"upstream `{key}`: its last attempt is not known"
            # It may have made data that are no value, so the same content is not enough.
            inputs.append(("a", key, memo.attempt_id))
        return make_fingerprint(identity.seed, identity.details, inputs), ""

    def _version(self, source: Source, unit: Unit, groups: Mapping[int, Group]) -> str | None:
        if source.how == "value":
            memo = self._memo(source.key)
        elif source.how == "element":
            memo = self._memo(source.key + _suffix(unit))
        elif source.how == "partitions":
            return self._partitions_version(source)
        else:
            return self._group_version(source, unit.step, groups)
        return memo.version or memo.attempt_id or None if memo is not None else None

    def _group_version(self, source: Source, step: Step, groups: Mapping[int, Group]) -> str | None:
        """Return the version of all instances of a mapped step together."""
        group = next(
            (groups[index] for index in step.deps if index in groups and groups[index].node == source.node), None
        )
        if group is None:
            return None
        found: list[str] = []
        for map_key in group.keys:
            memo = self._memo(f"{source.key}[{map_key}]")
            if memo is None:
                return None
            found.append(f"{map_key}={memo.version or memo.attempt_id}")
        return short_version(" ".join(found))

    def _partitions_version(self, source: Source) -> str | None:
        """Return the version of all stored partitions together."""
        # Of another handler, no memo does not mean no value.
        if not isinstance(source.io_handler, PickleIOHandler):
            return None
        memos = [(key, self._memo(key)) for key in loaded_keys(source)]
        if any(memo is None and key in self._stored.unreadable for key, memo in memos):
            return None
        return short_version(" ".join(f"{key}={memo.version or memo.attempt_id}" for key, memo in memos if memo))

    def _memo(self, key: str) -> Memo | None:
        """Return the memo of an input: of this run's value, or of the one that an earlier run has stored."""
        # The run's own come first: what was stored before it started has been replaced.
        return self._memos.get(key) or self._stored.memos.get(key)

    def _find_output(self, output: StoredOutput, suffix: str, wanted: str, attempts: set[str]) -> OutputRecord | None:
        """Return the record of a stored output with this fingerprint, and add the attempt that stored it."""
        key = output.key + suffix
        if output.mode is OutputMode.VALUE:
            memo = self._same(key, wanted, attempts)
            return OutputRecord(name=output.name, key=key, data_version=memo.version) if memo is not None else None
        memo = self._same(f"{key}[]", wanted, attempts)
        map_keys = self._stored.elements.get(key)
        if memo is None or map_keys is None:
            return None
        versions: list[str] = []
        for map_key in map_keys:
            element = self._same(f"{key}[{map_key}]", wanted, attempts)
            if element is None:
                return None
            versions.append(element.version or element.attempt_id)
        return OutputRecord(
            name=output.name, key=key, data_version=memo.version, map_keys=map_keys, versions=tuple(versions)
        )

    def _same(self, key: str, wanted: str, attempts: set[str]) -> Memo | None:
        memo = self._stored.memos.get(key)
        if memo is None or not is_same(memo.fingerprint, wanted):
            return None
        attempts.add(memo.attempt_id)
        return memo


def _suffix(unit: Unit) -> str:
    return "" if unit.map_key is None else f"[{unit.map_key}]"
