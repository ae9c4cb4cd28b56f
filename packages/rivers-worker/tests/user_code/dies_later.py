"""A module that ends the process that imports it, from its second import on; its step does nothing."""

import os
from pathlib import Path

from served_steps import note

if "imported once" in Path(os.environ["RIVERS_TEST_NOTES"]).read_text():
    note("dying")
    os._exit(9)
note("imported once")


def does_nothing() -> None:
    pass
