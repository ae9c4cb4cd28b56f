"""A traced run of one step in a pod of a FakeCluster: `python pods.py FOLDER`."""

from __future__ import annotations

import os
import sys

from opentelemetry import trace

import rivers as rs


class Shared(rs.PickleIOHandler):
    """A folder that the pods of a FakeCluster reach."""

    @property
    def reach(self) -> rs.io_handlers.Reach:
        return rs.io_handlers.Reach.ANYWHERE


@rs.Asset
def numbers() -> int:
    with trace.get_tracer("shop").start_as_current_span("query"):
        return 1


def main() -> None:
    from rivers_k8s_testing import FakeCluster

    given = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    with FakeCluster() as cluster:
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        executor = rs.Executor.kubernetes("test:1", env=given)
        with rs.CodeRepository(
            [numbers], default_executor=executor, default_io_handler=Shared(sys.argv[1])
        ) as repository:
            print(repository.materialize().steps["numbers"].worker)


if __name__ == "__main__":
    from pods import main as importable

    importable()
