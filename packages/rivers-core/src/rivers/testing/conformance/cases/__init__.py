"""The semantic cases: the same body has the same result, events and failure reason on every executor."""
