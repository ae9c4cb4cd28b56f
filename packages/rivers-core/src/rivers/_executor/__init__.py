"""The backend interface, the registry of backends, the run loop, and the in-process backend."""
