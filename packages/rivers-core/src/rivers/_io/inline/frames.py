"""Encode tables of pyarrow and frames of pandas and polars as Arrow IPC.

Whatever would not come back the same is refused: a frame is decoded again before it is sent, and compared.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from rivers._io.inline.errors import InlineError, InlineTooLargeError
from rivers.protocol.limits import LIMITS

__all__ = ["FRAME_CODES", "encode_frame", "read_frame"]

TABLE, BATCH, PANDAS, PANDAS_SERIES, POLARS, POLARS_SERIES = range(30, 36)
FRAME_CODES = frozenset({TABLE, BATCH, PANDAS, PANDAS_SERIES, POLARS, POLARS_SERIES})
_KINDS = {
    "pyarrow.lib.Table": TABLE,
    "pyarrow.lib.RecordBatch": BATCH,
    "pandas.DataFrame": PANDAS,
    "pandas.core.frame.DataFrame": PANDAS,
    "pandas.Series": PANDAS_SERIES,
    "pandas.core.series.Series": PANDAS_SERIES,
    "polars.dataframe.frame.DataFrame": POLARS,
    "polars.series.series.Series": POLARS_SERIES,
}
_MOST_CELLS = 8 * LIMITS.inline
"""More cells than this cannot fit: a cell takes a bit or more."""
_SAFE_ARROW = (14, 0, 1)
"""Older pyarrow unpickles extension types of a stream that it reads (CVE-2023-47248)."""


def encode_frame(value: Any, pack: Callable[[Any], Any]) -> tuple[int, list[Any]] | None:
    """Return the extension code and the parts of a table, frame or series; None for anything else.

    Raises:
        InlineError: it would come back as another one, has too many cells, or pyarrow is missing.
    """
    kind = type(value)
    code = _KINDS.get(f"{kind.__module__}.{kind.__qualname__}")
    if code is None:
        return None
    what = f"a {kind.__module__.partition('.')[0]} {kind.__qualname__}"
    # Before anything is copied: a frame may fill the memory.
    if (cells := _count_cells(value)) > _MOST_CELLS:
        raise InlineTooLargeError(f"has {what} of {cells:,} cells, more than {LIMITS.inline:,} bytes can hold")
    name = pack(value.name) if code == PANDAS_SERIES else None
    try:
        parts = [_WRITERS[code](value), name]
        is_same = _is_same(code, value, read_frame(code, [parts[0], getattr(value, "name", None)]))
    except ImportError as error:
        raise InlineError(f"has {what}, which takes the package {error.name}, not installed here") from error
    except InlineError:
        raise
    except Exception as error:  # noqa: BLE001 - pyarrow, pandas and polars raise what they like
        # The message of pyarrow may quote a cell.
        raise InlineError(f"has {what} that Arrow cannot hold ({type(error).__name__})", hint=_HINT) from None
    if not is_same:
        raise InlineError(f"has {what} that would come back from Arrow as another one", hint=_HINT)
    return code, parts


_HINT = "let each column have one type that Arrow has, and an index without a freq"


def read_frame(code: int, parts: list[Any]) -> Any:
    """Return the table, frame or series of the parts."""
    data, name = parts
    if code in (POLARS, POLARS_SERIES):
        frame = _check_cells(importlib.import_module("polars").read_ipc_stream(data))
        return frame.to_series() if code == POLARS_SERIES else frame
    arrow = _arrow()
    with arrow.ipc.open_stream(data) as stream:
        table = stream.read_all()
    # The bytes are another process's: offsets may point anywhere, and a column of nulls takes no bytes until it is
    # converted.
    _check_cells(table).validate(full=True)
    if code == TABLE:
        return table
    if code == BATCH:
        batches = table.to_batches()
        return batches[0] if batches else arrow.RecordBatch.from_pylist([], table.schema)
    frame = table.to_pandas()
    return frame.iloc[:, 0].rename(name) if code == PANDAS_SERIES else frame


def _count_cells(table: Any) -> int:
    rows, *columns = table.shape
    return rows * max(1, *columns, 1)  # type: ignore[no-any-return]  # of a library that need not be installed


def _check_cells(table: Any) -> Any:
    if _count_cells(table) > _MOST_CELLS:
        raise InlineError("has more cells than travel inline")
    return table


def _write_table(table: Any) -> bytes:
    arrow = _arrow()
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]  # pyarrow has no types


def _write_pandas(frame: Any) -> bytes:
    return _write_table(_arrow().Table.from_pandas(frame))


def _write_polars(frame: Any) -> bytes:
    # polars ends the process's threads in a panic for objects, instead of raising an error.
    if any(str(dtype).startswith("Object") for dtype in frame.dtypes):
        raise InlineError("has a polars column of Python objects", hint=_HINT)
    return frame.write_ipc_stream(None).getvalue()  # type: ignore[no-any-return]  # polars is not installed for the check


_WRITERS: dict[int, Callable[[Any], bytes]] = {
    TABLE: _write_table,
    BATCH: _write_table,
    PANDAS: _write_pandas,
    PANDAS_SERIES: lambda series: _write_pandas(series.to_frame("value")),
    POLARS: _write_polars,
    POLARS_SERIES: lambda series: _write_polars(series.to_frame()),
}


def _is_same(code: int, value: Any, again: Any) -> bool:
    if type(value) is not type(again):
        return False
    if code in (TABLE, BATCH):
        return bool(value.schema.equals(again.schema, check_metadata=True) and value.equals(again))
    if code in (POLARS, POLARS_SERIES):
        ours, theirs = (value.to_frame(), again.to_frame()) if code == POLARS_SERIES else (value, again)
        return bool(ours.schema == theirs.schema and ours.equals(theirs, null_equal=True))
    return _is_same_pandas(value, again, is_series=code == PANDAS_SERIES)


def _is_same_pandas(value: Any, again: Any, *, is_series: bool) -> bool:
    testing = importlib.import_module("pandas").testing
    compare = testing.assert_series_equal if is_series else testing.assert_frame_equal
    try:
        compare(value, again, check_exact=True, check_freq=True, check_flags=True)
    except AssertionError:
        return False
    columns = [(value, again)] if is_series else [(value.iloc[:, n], again.iloc[:, n]) for n in range(value.shape[1])]
    columns += [
        (value.index.to_frame().iloc[:, n], again.index.to_frame().iloc[:, n]) for n in range(value.index.nlevels)
    ]
    # pandas takes None for NaN, and 1 for 1.0, in a column of objects.
    return (
        value.attrs == again.attrs
        and type(value.index) is type(again.index)
        and all([*map(type, ours)] == [*map(type, theirs)] for ours, theirs in columns if ours.dtype == object)
    )


def _arrow() -> Any:
    arrow = importlib.import_module("pyarrow")
    importlib.import_module("pyarrow.ipc")
    version = tuple(int(part) for part in arrow.__version__.split(".")[:3] if part.isdigit())
    if version < _SAFE_ARROW:
        raise InlineError("is a table, which takes pyarrow 14.0.1 or newer: older ones unpickle what they read")
    return arrow
