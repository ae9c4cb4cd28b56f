"""A pool of warm workers, on any platform: it knows what a worker may be given, and not what a worker is.

    from rivers_worker.pool import WarmPool, WorkerRequest

`state` and `decide` are pure: from a state and a fact to the next state and what has to be done. `warm_pool` does it.
"""

from rivers_worker.pool.state import WorkerRequest
from rivers_worker.pool.warm_pool import PoolClosedError, StartedWorker, WarmPool, WorkerLease

__all__ = ["PoolClosedError", "StartedWorker", "WarmPool", "WorkerLease", "WorkerRequest"]
