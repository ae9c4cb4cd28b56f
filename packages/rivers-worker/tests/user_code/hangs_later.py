"""A module whose import never ends, from the second one on; its step does nothing."""

import os
import time
from pathlib import Path

from served_steps import note

if "imported once" in Path(os.environ["RIVERS_TEST_NOTES"]).read_text():
    note("hanging")
    time.sleep(1000)
note("imported once")


def does_nothing() -> None:
    pass
