"""Generated from proto/rivers_worker/v1/worker.proto by proto/generate.py."""
