"""The conformance kit: laws that every executor must keep, judged by its behaviour alone.

    with Subject(MyExecutor(max_workers=2)) as subject:
        for result in run_laws(subject):
            print(result.law.name, result.outcome, result.text)

With pytest, subclass `rivers.testing.ExecutorConformance` instead. `docs/conformance.md` explains each law.
"""

from rivers.testing.conformance.law import Law
from rivers.testing.conformance.registry import LAWS
from rivers.testing.conformance.runner import LawResult, run_law, run_laws
from rivers.testing.conformance.subject import Subject

__all__ = ["LAWS", "Law", "LawResult", "Subject", "run_law", "run_laws"]
