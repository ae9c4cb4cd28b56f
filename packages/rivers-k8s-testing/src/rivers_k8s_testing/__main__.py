"""Serve a fake cluster from a process of its own: print its kubeconfig and run until Ctrl-C.

export KUBECONFIG=$(python -m rivers_k8s_testing &)   # or read the line from a pipe
python -m rivers_k8s_testing --stub my_tests.stubs:outcome
"""

from __future__ import annotations

import argparse
import pkgutil
import signal
import sys
import threading
from collections.abc import Sequence

from rivers_k8s_testing.cluster import WORKER, FakeCluster

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM and return 0."""
    about = "Serve a fake Kubernetes whose pods are processes of this machine. Prints the path of its kubeconfig."
    parser = argparse.ArgumentParser(prog="python -m rivers_k8s_testing", description=about)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--start-delay", type=float, default=0.0, metavar="SECONDS", help="until a container starts")
    parser.add_argument("--stub", metavar="MODULE:FUNCTION", help="start nothing: it makes the termination messages")
    parser.add_argument("command", nargs="*", default=WORKER, help="what containers run: rivers-worker")
    given = parser.parse_args(arguments)
    stub = pkgutil.resolve_name(given.stub) if given.stub else None
    stopped = threading.Event()  # signals are not blocked, as pods would inherit the mask
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with FakeCluster(namespace=given.namespace, command=given.command, stub=stub) as cluster:
        cluster.start_delay = given.start_delay
        sys.stdout.write(f"{cluster.kubeconfig}\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
