"""Generated from proto/rivers/protocol/v1/step.proto by proto/generate.py."""
