"""Clean up after an attempt: the next one on the same worker sees none of it, or the worker retires."""

from rivers_worker.clean_up.clean_up import CleanUp

__all__ = ["CleanUp"]
