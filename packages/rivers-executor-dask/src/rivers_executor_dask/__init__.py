"""An executor for rivers on an existing Dask cluster: each attempt of a step is a task of the cluster.

rs.Job("nightly", assets=[...], executor=DaskExecutor("tcp://scheduler:8786"))
@rs.Asset(metadata={"rivers/executor": "dask", "rivers/dask/priority": "10"})
"""

# The backend, and distributed with it, is loaded by its entry point: the process of a body imports neither.
from rivers_executor_dask.executor import DaskExecutor

__all__ = ["DaskExecutor"]
