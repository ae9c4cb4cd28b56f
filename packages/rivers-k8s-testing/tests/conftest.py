"""Tests of the fake cluster find their helpers, and those of rivers-core for what a test has left behind."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parents[1] / "rivers-core" / "tests")]
