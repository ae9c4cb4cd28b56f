"""Where steps run: the backend interface, the registry, the run loop, the in-process backend."""
