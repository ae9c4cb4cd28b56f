"""Records that it was imported."""

import os

with open(os.environ["RIVERS_TEST_NOTES"], "a") as notes:
    notes.write("imported\n")


def quick() -> None:
    pass
