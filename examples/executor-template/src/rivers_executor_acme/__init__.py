"""An executor for rivers: every attempt of a step in a process of its own.

rs.Job("nightly", assets=[...], executor=AcmeExecutor(max_workers=4))
@rs.Asset(metadata={"rivers/executor": "acme"})
"""

from rivers_executor_acme.backend import AcmeBackend
from rivers_executor_acme.executor import AcmeExecutor

__all__ = ["AcmeBackend", "AcmeExecutor"]
