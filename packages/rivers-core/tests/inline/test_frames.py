"""Tables and frames as inline values; `nox -s frames` installs pyarrow and polars for them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from rivers._io.inline.errors import InlineError, InlineTooLargeError
from rivers._io.inline.values import decode_value, encode_value

REASON = "needs pyarrow, which the plain session does not install: nox -s frames"


@pytest.fixture
def arrow() -> Any:
    return pytest.importorskip("pyarrow", reason=REASON)


@pytest.fixture
def polars() -> Any:
    return pytest.importorskip("polars", reason=REASON.replace("pyarrow", "polars"))


def with_attrs() -> Any:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["source"] = "shop"
    return frame


FRAMES: dict[str, Callable[[], Any]] = {
    "columns": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, np.nan], "d": [True, False]}),
    "index": lambda: pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
    "levels": lambda: pd.Series([1], index=pd.MultiIndex.from_tuples([("a", 1)], names=["k", None])),
    "empty": pd.DataFrame,
    "numbered columns": lambda: pd.DataFrame({1: [1], 2: [2.0]}),
    "categories": lambda: pd.DataFrame({"a": pd.Categorical(["x", "y"], categories=["y", "x", "z"], ordered=True)}),
    "times": lambda: pd.DataFrame({"a": pd.to_datetime(["2020-01-01", None]).tz_localize("Europe/Berlin")}),
    "extension": lambda: pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}),
    "series": lambda: pd.Series([1, 2], name="s"),
    "named by a tuple": lambda: pd.Series([1, 2], name=("a", 1)),
    "attrs": with_attrs,
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_pandas(make: Callable[[], Any], arrow: Any) -> None:
    """A frame or series comes back with its columns, types, index and names."""
    value = make()
    again = decode_value(encode_value({"frame": value}))["frame"]
    compare: Any = pd.testing.assert_series_equal if isinstance(value, pd.Series) else pd.testing.assert_frame_equal
    compare(value, again, check_exact=True)


CHANGED: dict[str, Callable[[], Any]] = {
    "mixed": lambda: pd.DataFrame({"a": [1, "x"]}),
    "numbers as objects": lambda: pd.DataFrame({"a": pd.Series([1, 2], dtype=object)}),
    "lists": lambda: pd.DataFrame({"a": [[1], [2]]}),
    "freq": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2020", periods=2)),
    "objects": lambda: pd.Series([object()]),
    "mixed index": lambda: pd.Series([1, 2], index=pd.Index([1, "x"], dtype=object)),
    "same names": lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]),
}


@pytest.mark.parametrize("make", CHANGED.values(), ids=CHANGED)
def test_changed_by_arrow(make: Callable[[], Any], arrow: Any) -> None:
    """A frame that Arrow would change, or has no place for, is refused."""
    with pytest.raises(InlineError, match=r"pandas (DataFrame|Series) that (would come back|Arrow cannot hold)"):
        encode_value(make())


def test_arrow(arrow: Any) -> None:
    """Tables and batches come back with their schema, metadata and nulls."""
    metadata = {b"unit": b"kg"}
    table = arrow.table({"a": [1, None], "b": [["x"], []]}).replace_schema_metadata(metadata)
    again = decode_value(encode_value([table, table.to_batches()[0]]))
    assert table.equals(again[0])
    assert metadata == again[0].schema.metadata
    assert arrow.RecordBatch is type(again[1])


def test_polars(polars: Any) -> None:
    """Frames and series of polars come back; a column of Python objects is refused before polars panics."""
    frame = polars.DataFrame({"a": [1, None], "b": ["x", "y"], "c": [[1.5], []]})
    again = decode_value(encode_value((frame, frame["a"])))
    assert frame.equals(again[0])
    assert frame["a"].equals(again[1])
    assert "a" == again[1].name
    with pytest.raises(InlineError, match="a polars column of Python objects"):
        encode_value(polars.DataFrame({"a": [object()]}))


def test_large_frame() -> None:
    """A frame that cannot fit is refused before it is converted, also without pyarrow."""
    with pytest.raises(InlineTooLargeError, match=r"pandas DataFrame of 3,000,000 cells"):
        encode_value(pd.DataFrame({name: np.zeros(1_000_000) for name in "abc"}))


def test_more_rows_than_bytes(arrow: Any) -> None:
    """Bytes that claim a billion nulls are refused before they fill the memory."""
    table = arrow.table({"a": arrow.nulls(1_000_000_000)})
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write(table)
    parts = msgspec.msgpack.encode([sink.getvalue().to_pybytes(), None])
    with pytest.raises(InlineError, match="more cells than travel inline"):
        decode_value(msgspec.msgpack.encode(msgspec.msgpack.Ext(32, parts)))


def test_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow a frame is refused by the name of the package."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InlineError, match="a pandas DataFrame, which takes the package pyarrow, not installed here"):
        encode_value(pd.DataFrame({"a": [1]}))


def test_an_old_pyarrow(arrow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyarrow that unpickles extension types while it reads is not used (CVE-2023-47248)."""
    data = encode_value(pd.DataFrame({"a": [1]}))
    monkeypatch.setattr(arrow, "__version__", "14.0.0")
    with pytest.raises(InlineError, match=r"takes pyarrow 14\.0\.1 or newer"):
        decode_value(data)
