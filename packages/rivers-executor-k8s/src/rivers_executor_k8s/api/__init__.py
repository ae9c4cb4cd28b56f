"""The API server: requests, streams, watches, port-forwards."""
