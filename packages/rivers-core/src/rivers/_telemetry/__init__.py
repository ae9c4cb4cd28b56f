"""OpenTelemetry: spans, metrics and logs of a run, and the trace context of its attempts."""
