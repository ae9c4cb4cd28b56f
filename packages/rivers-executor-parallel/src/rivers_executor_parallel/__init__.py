from rivers_executor_parallel.backend import ParallelBackend

__all__ = ["ParallelBackend"]
