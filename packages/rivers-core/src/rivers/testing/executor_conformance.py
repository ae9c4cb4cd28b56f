"""The conformance kit as a test class, for the pytest plug-in of rivers-core."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from inspect import getattr_static
from pathlib import Path
from typing import Any, ClassVar, Literal

from rivers._definitions.executor import Executor
from rivers._definitions.names import did_you_mean
from rivers._io.base import BaseIOHandler
from rivers.exceptions import ConfigurationError
from rivers.testing.conformance import LAWS, Law, Subject, run_law

__all__ = ["ExecutorConformance"]


class ExecutorConformance:
    """Tests of an executor by every law of the kit; subclass it and give the executor.

        class TestMyExecutor(ExecutorConformance):
            executor = MyExecutor(max_workers=2)

    `executor` may also be a property, or a fixture of class scope. Needs pytest with the plug-in of rivers-core, which
    it finds by itself; without it the tests have no fixture `rivers_judge`.
    """

    is_executor_conformance: ClassVar[bool] = True
    tier: ClassVar[Literal["quick", "full"] | None] = None
    """The tier of this class; None for that of `--rivers-tier`."""
    expected_failures: ClassVar[Mapping[str, str]] = {}
    """The laws that the executor is known to break, each with a reason. One that it keeps fails."""
    orphans_end_within: ClassVar[float] = 2.0
    """Seconds after a controller's SIGKILL within which nothing of it runs."""
    patience: ClassVar[float] = 30.0
    """Seconds within which an attempt must begin, and end once nothing holds it."""

    @contextlib.contextmanager
    def start_service(self) -> Iterator[None]:
        """Start what the executor needs, for all laws; by default nothing. Attributes of `self` stay until its end."""
        yield

    def leftovers(self) -> Sequence[str]:
        """Return the names of the platform's objects that exist, such as jobs or pods; by default none."""
        return ()

    def orphans(self) -> Sequence[str]:
        """Return those of the platform's objects that run, for the law about a killed controller; by default all."""
        return self.leftovers()

    def io_handler(self, tmp_path: Path) -> BaseIOHandler | None:
        """Return an IO handler whose values reach the workers; None for files in `tmp_path`, if workers are here."""
        return None

    def test_law(self, rivers_judge: Any) -> None:
        """The executor keeps the law."""
        rivers_judge()

    @classmethod
    def laws_of(cls, tier: str) -> list[Law]:
        """Return the laws of a tier.

        Raises:
            ConfigurationError: `expected_failures` names a law that does not exist.
        """
        for name in cls.expected_failures:
            if name not in LAWS:
                hint = did_you_mean(name, LAWS)
                raise ConfigurationError(f"invalid expected_failures={name!r}: expected the name of a law{hint}")
        return [law for law in LAWS.values() if tier == "full" or law.tier == "quick"]

    @classmethod
    def has_executor_value(cls) -> bool:
        """Return whether `executor` is a value or a property, and no fixture."""
        return isinstance(getattr_static(cls, "executor", None), Executor | property | cached_property)

    def open_subject(self, executor: Executor, tier: Literal["quick", "full"]) -> Subject:
        """Return the subject of the laws."""
        return Subject(
            executor,
            tier=tier,
            io_handler=self.io_handler,
            leftovers=self.leftovers if type(self).leftovers is not ExecutorConformance.leftovers else None,
            orphans=self.orphans,
            orphans_end_within=self.orphans_end_within,
            patience=self.patience,
        )

    @classmethod
    def judge(cls, law: Law, subject: Subject) -> dict[str, Any]:
        """Judge by one law; return the outcome with the expected failures taken into account, as plain data."""
        result = run_law(law, subject)
        outcome, text = str(result.outcome), result.text
        reason = cls.expected_failures.get(law.name)
        if reason is not None and outcome == "failed":
            outcome, text = "xfailed", f"{reason}\n{text}"
        elif reason is not None and outcome == "passed":
            outcome, text = "failed", f"{law.name}: passed, and is in expected_failures ({reason}): remove it there"
        return {
            "executor": repr(subject.executor),
            "law": law.name,
            "tier": law.tier,
            "outcome": outcome,
            "text": text,
            "seconds": round(result.seconds, 3),
            "figures": dict(result.figures),
            "page": law.page,
        }
