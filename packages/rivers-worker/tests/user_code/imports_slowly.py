"""Takes a minute to import."""

import os
import time


def quick() -> None:
    pass


with open(os.environ["RIVERS_TEST_NOTES"], "a") as notes:
    notes.write("importing\n")
time.sleep(60)
