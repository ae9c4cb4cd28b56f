"""rivers on Slurm: steps as batch jobs, in jobs of their own or in pilot jobs that serve many.

The backend is loaded by its entry point: workers import the value alone.
"""

from rivers_executor_slurm.executor import SlurmExecutor

__all__ = ["SlurmExecutor"]
