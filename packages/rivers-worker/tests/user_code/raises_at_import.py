"""Cannot be imported, and raises the cause."""

raise LookupError("no licence")
