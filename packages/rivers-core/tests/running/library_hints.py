"""Cases of return hints of libraries that the conformance kit does not need."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

import rivers as rs
from rivers.testing.conformance.cases.case import Fails, fails, succeeds

__all__ = ["CASES"]

OUTPUT = "rivers.exceptions.AssetOutputValidationError"


@rs.Asset
def array() -> npt.NDArray[np.float64]:
    return np.zeros(3)


@rs.Asset
def frame_is_list() -> pd.DataFrame:
    return [1]


CASES = [
    fails("hint dataframe", frame_is_list, Fails("error", OUTPUT, "expected DataFrame, got list")),
    succeeds("hint array", array, values={}),
]
