"""Executors whose workers run elsewhere: a platform starts them, and `RemoteBackend` does the rest.

    from rivers_worker.remote import RemoteBackend, RemoteSettings, WorkerPlatform

backend ──▶ run ──▶ attempts ──▶ workers: a pool, over a platform
"""

from rivers_worker.remote.agent_worker import AgentWorker, WorkerEndedError
from rivers_worker.remote.backend import RemoteBackend
from rivers_worker.remote.platform import RemoteWorker, StartRefusedError, WorkerOrder, WorkerPlatform
from rivers_worker.remote.workers import RemoteSettings

__all__ = [
    "AgentWorker",
    "RemoteBackend",
    "RemoteSettings",
    "RemoteWorker",
    "StartRefusedError",
    "WorkerEndedError",
    "WorkerOrder",
    "WorkerPlatform",
]
