"""A module that leaves a note when it is imported."""

from __future__ import annotations

import os
from pathlib import Path

Path(os.environ["RIVERS_TEST_NOTES"]).write_text("imported")
