"""IO handlers and their contexts."""
