"""Run async bodies on event loops."""
