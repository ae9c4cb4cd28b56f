"""Capture what bodies print and log."""
