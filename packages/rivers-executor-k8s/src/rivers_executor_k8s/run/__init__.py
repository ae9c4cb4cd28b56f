"""A run on a cluster: preflight, lease, session, attempts."""
