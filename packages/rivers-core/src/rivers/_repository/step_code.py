"""Compare the code and the config of steps with those that a recorded run had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import msgspec
from pydantic import BaseModel

from rivers._code.hasher import CodeHasher
from rivers._definitions.asset import GraphAsset
from rivers._definitions.task import BashTask
from rivers._plan.plan import Plan, Step
from rivers._record.header import RunHeader
from rivers._record.redact import MASK
from rivers._repository.resume import find_changes
from rivers.exceptions import Problem

__all__ = ["Comparison", "digest_steps"]

MOST_NAMES = 10
MIXED = "mixed"
"""The digest of a mapped step whose instances were made by more than one version of its code."""


def digest_steps(plan: Plan) -> dict[str, str]:
    """Return a digest of the code of each step, by its key; of code that cannot be known there is none."""
    # One for the whole plan, as steps share helpers. What bodies import late may take long, or be missing here.
    hasher = CodeHasher(imports=False)
    return {step.key: digest for step in plan.steps if (digest := _digest(step, hasher))}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The code and the config of a plan's steps beside those of a recorded run.

    `codes` are digests by step, `configs` JSON texts by asset.
    """

    header: RunHeader
    plan: Plan
    codes: Mapping[str, str]
    configs: Mapping[str, str]

    def changed_code(self) -> set[str]:
        """Return the steps whose code is known to be another one."""
        found = {step.key: step.code for step in self.header.steps if step.code}
        return {key for key, code in self.codes.items() if found.get(key, code) != code}

    def changed_configs(self) -> dict[str, str]:
        """Return what is different in the config of steps, in words; what was masked cannot be compared."""
        found: dict[str, str] = {}
        for step in self.plan.steps:
            for node in step.inner or (step.node,):
                name = node.definition.name
                old, new = self.header.configs.get(name, "{}"), self.configs.get(name, "{}")
                fields = _different_fields(old, new) if old != new else []
                if fields:
                    found[step.key] = f"the config of {name!r} is another one, in {', '.join(fields)}"
        return found

    def changes(self) -> dict[str, str]:
        """Return why steps of a retry do not reuse what the recorded run has made, in words by their keys."""
        found = find_changes(self.header, self.plan)
        for key in self.changed_code():
            found.setdefault(key, ["its code, or a value that it uses, has changed"])
        for key, text in self.changed_configs().items():
            found.setdefault(key, []).append(text)
        return {key: "; ".join(texts) for key, texts in found.items()}

    def config_problems(self, units: Iterable[str]) -> list[Problem]:
        """Return why a run cannot go on with these units: they were made with another config."""
        reused, where = _steps_of(units), {step.key: step.node.definition.where for step in self.plan.steps}
        changed = self.changed_configs()
        return [
            Problem(f"{text}, and what it has made counts", key, where[key])
            for key, text in changed.items()
            if key in reused
        ]

    def code_notes(self, units: Iterable[str]) -> dict[str, str]:
        """Return the warning, by step, that a resumed run goes on with values that other code has made."""
        changed = sorted(self.changed_code() & _steps_of(units))
        if not changed:
            return {}
        names = ", ".join(map(repr, changed[:MOST_NAMES]))
        more = f" and {len(changed) - MOST_NAMES} more" if len(changed) > MOST_NAMES else ""
        return {
            changed[0]: f"the run goes on with values that other code has made, of {names}{more}: "
            f"retry it for values of one version (retry_of=, or --retry-failed)"
        }

    def codes_of(self, units: Iterable[str]) -> dict[str, str]:
        """Return the digests for the header of a run that reuses these units of the recorded one."""
        reused = _steps_of(units)
        codes = dict(self.codes)
        for step in self.header.steps:
            if step.key in reused and step.code != codes.get(step.key, ""):
                # The other instances of a mapped step are made by the code of now.
                codes[step.key] = MIXED if step.mapped_over is not None and step.code else step.code
        return codes


def _steps_of(units: Iterable[str]) -> set[str]:
    """Return the keys of the steps of units."""
    return {unit.partition("[")[0] for unit in units}


def _different_fields(old: str, new: str) -> list[str]:
    try:
        before, now = msgspec.json.decode(old), msgspec.json.decode(new)
    except msgspec.DecodeError:
        # A number that was a secret is masked without quotes.
        return []
    names = [name for name in {*before, *now} if before.get(name) != now.get(name)]
    return sorted(f"`{name}`" for name in names if MASK not in str(before.get(name)))


def _digest(step: Step, hasher: CodeHasher) -> str:
    parts: list[bytes] = []
    for node in step.inner or (step.node,):
        definition = node.definition
        version = getattr(definition, "code_version", None)
        if version is None and isinstance(node.owner, GraphAsset):
            version = node.owner.code_version
        if version is not None:
            # It is in the header by itself.
            continue
        if isinstance(definition, BashTask):
            text = repr((definition.command, sorted((definition.env or {}).items()), definition.cwd))
            parts.append(text.encode("utf-8", "surrogatepass"))
            continue
        signature = definition.signature
        model = signature.config_model if signature is not None and signature.context is not None else None
        for used in (definition.function, model):
            if used is None or (used is model and not (isinstance(model, type) and issubclass(model, BaseModel))):
                continue
            try:
                found = hasher.hash(used).digest
            except Exception:  # noqa: BLE001 - attributes of the user's objects may raise anything, and a run goes on
                found = None
            if found is None:
                return ""
            parts.append(found)
    return blake2b(b"\0".join(parts), digest_size=8).hexdigest() if parts else ""
