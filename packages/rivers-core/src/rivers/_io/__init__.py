"""IO handlers and the contexts they are given."""
