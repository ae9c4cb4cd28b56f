"""Judge a wrong backend by every law of a tier; print those that it breaks as JSON: `python judge.py SIN TIER`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from sinners import CAUGHT_BY
from sinners.leftovers import remove_left
from sinners.platforms import OBJECTS
from zoo_backend import ZooExecutor

from rivers.testing.conformance import LAWS, LawResult, Subject, run_law

PATIENCE = 20.0
"""Seconds that a law waits for what a wrong backend may never do."""


def open_subject(sin: str = "", patience: float = PATIENCE) -> Subject:
    """Return the subject of a wrong backend, or of the correct one."""
    return Subject(ZooExecutor(sin), patience=patience, leftovers=lambda: OBJECTS)


def broken_laws(sin: str, tier: str) -> dict[str, str]:
    """Return the laws of a tier that a backend breaks, each with the text of its failure.

    One that is not the sinner's own is asked twice, as a busy machine breaks what is measured in seconds.
    """
    broken = {}
    with open_subject(sin) as subject:
        for name, law in LAWS.items():
            if law.tier != tier and name != CAUGHT_BY[sin]:
                continue
            results: list[LawResult] = []
            while not results or (results[-1].outcome == "failed" and name != CAUGHT_BY[sin] and len(results) < 2):
                results.append(run_law(law, subject))
                remove_left()
            if results[-1].outcome == "failed":
                broken[name] = results[-1].text
    return broken


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent / "site"))
    # Bodies print to this stdout, too.
    answer = os.dup(1)
    os.dup2(2, 1)
    os.write(answer, json.dumps(broken_laws(*sys.argv[1:])).encode())
    # Not waiting for what the backend has left.
    os._exit(0)
