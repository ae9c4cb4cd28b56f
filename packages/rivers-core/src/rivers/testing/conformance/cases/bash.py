"""Cases of bash tasks: output, environment, exit codes, signals, timeouts."""

from __future__ import annotations

from typing import Any

import rivers as rs
from rivers.testing.conformance.cases.case import Case, Fails, graph
from rivers.testing.conformance.cases.graphs import OK, numbers, total

__all__ = ["CASES"]

echo = rs.BashTask("echo", 'printf "%s %s %s" "$GREETING" "$x" "$PWD"', env={"GREETING": "hello"}, cwd="/")
words = rs.BashTask("words", ["printf", "%s", "a b;c"])
wrong = rs.BashTask("wrong", "echo out; echo went wrong >&2; exit 3")
killed = rs.BashTask("killed", "kill -TERM $$")
endless = rs.BashTask("endless", "sleep 600 & sleep 600", timeout=0.05)
nowhere = rs.BashTask("nowhere", "true", cwd="/does/not/exist")


@rs.Asset.from_graph
def bash(numbers: Any) -> Any:
    return echo(x=total(numbers))


def alone(name: str, task: rs.BashTask, how: Fails) -> Case:
    return Case(
        name=name,
        parts={"assets": [], "tasks": [task]},
        states={task.name: "failed"},
        failures={task.name: how},
        absent=(task.name,),
    )


CASES = [
    graph("bash", bash, "hello 6 /", {"total": OK, "echo": OK}, numbers),
    Case(name="bash alone", parts={"assets": [], "tasks": [words]}, states={"words": OK}, values={"words": "a b;c"}),
    alone("bash exit code", wrong, Fails("error", "ExecutionError", "with code 3")),
    alone("bash stderr", wrong, Fails("error", "ExecutionError", "went wrong")),
    alone("bash signal", killed, Fails("error", "ExecutionError", "SIGTERM")),
    alone("bash timeout", endless, Fails("timeout", "Error", "timeout of 0.05 s")),
    alone("bash cwd", nowhere, Fails("error", "ExecutionError", "/does/not/exist")),
]
