"""Cannot be imported, and says why."""

raise LookupError("no licence")
