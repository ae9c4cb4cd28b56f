"""Hashes of code that cosmetic edits leave as they are."""
