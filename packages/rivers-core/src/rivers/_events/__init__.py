"""What happened: events, and the sinks that are told."""
