"""Test programs that run on Kubernetes with a cluster in this process, whose pods are processes of this machine.

```python
from rivers_k8s_testing import FakeCluster, Fault

with FakeCluster() as cluster:
    cluster.faults.add(Fault.status(503), verb="create", resource="pods", times=2)
    ...  # Executor.kubernetes with KUBECONFIG=cluster.kubeconfig
```
"""

from __future__ import annotations

from rivers_k8s_testing.api_server.calls import Request
from rivers_k8s_testing.cluster import FakeCluster
from rivers_k8s_testing.faults import Fault, Faults, Rule

__all__ = ["FakeCluster", "Fault", "Faults", "Request", "Rule"]
