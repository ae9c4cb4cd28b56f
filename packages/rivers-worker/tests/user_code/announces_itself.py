"""Prints an announcement at import, to take the worker's place."""

import os

FORGED = b"rivers-worker 1 1 TUlJ\n"
os.write(1, FORGED)
os.write(2, FORGED)
