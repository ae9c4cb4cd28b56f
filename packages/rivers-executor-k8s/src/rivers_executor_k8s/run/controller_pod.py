"""Find the pod that this process runs in: workers take its image, and belong to it."""

from __future__ import annotations

import os
import socket

from rivers.exceptions import ConfigurationError
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.manifest import Owner
from rivers_executor_k8s.pod.objects import Pod

__all__ = ["image_and_owner"]

POD_NAME_VARIABLES = ("RIVERS_POD_NAME", "POD_NAME", "HOSTNAME")
"""Variables that may hold the pod's own name: the downward API sets the first two, every runtime the last."""


async def image_and_owner(cluster: Cluster, given: str | None) -> tuple[str, Owner | None]:
    """Return the workers' image and, in the cluster, the controller's pod as the owner of theirs.

    Kubernetes deletes a pod with its owner.

    Raises:
        ConfigurationError: no image is given, and it cannot be taken from the pod that this process runs in.
    """
    own = None if cluster.outside else await _own_pod(cluster)
    owner = Owner(own.metadata.name, own.metadata.uid) if own is not None else None
    if given is not None:
        return given, owner
    if own is None:
        raise ConfigurationError(
            f"worker_image=None, and {'this process runs in no pod' if cluster.outside else 'its pod was not found'}",
            hint='write rs.Executor.kubernetes("your-image:tag")',
        )
    containers = own.spec.containers
    named = [container for container in containers if container.name == os.environ.get("RIVERS_CONTAINER_NAME")]
    if len(containers) != 1 and not named:
        names = ", ".join(container.name for container in containers)
        raise ConfigurationError(
            f"worker_image=None, and the pod {own.metadata.name!r} has several containers: {names}",
            hint="write the image, or set RIVERS_CONTAINER_NAME in the controller's container",
        )
    return (named or list(containers))[0].image, owner


async def _own_pod(cluster: Cluster) -> Pod | None:
    for name in [os.environ.get(variable) for variable in POD_NAME_VARIABLES] + [socket.gethostname()]:
        if name and (pod := await cluster.get_pod(name)) is not None:
            return pod
    return None
