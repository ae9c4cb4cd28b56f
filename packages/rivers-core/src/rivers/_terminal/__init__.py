"""Terminals and notebooks: live progress of a run, and its summary as text."""
