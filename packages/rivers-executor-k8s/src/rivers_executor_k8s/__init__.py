"""rivers on Kubernetes: every attempt of a step in a pod of its own."""

from rivers_executor_k8s.backend import KubernetesBackend

__all__ = ["KubernetesBackend"]
