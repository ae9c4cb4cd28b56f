"""Checks of `Executor.kubernetes`: its arguments and the pod template."""
