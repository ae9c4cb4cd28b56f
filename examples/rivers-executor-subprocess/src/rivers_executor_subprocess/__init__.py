"""An executor for rivers in a package of its own: each attempt of a step runs in a new process of this machine.

rs.Job("nightly", assets=[...], executor=SubprocessExecutor(max_workers=4))
@rs.Asset(metadata={"rivers/executor": "subprocess"})
"""

from rivers_executor_subprocess.backend import SubprocessBackend
from rivers_executor_subprocess.executor import SubprocessExecutor

__all__ = ["SubprocessBackend", "SubprocessExecutor"]
