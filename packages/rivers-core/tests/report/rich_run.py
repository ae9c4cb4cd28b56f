"""A small run whose outputs have metadata of every kind, and whose texts are attacks where they can be."""

from __future__ import annotations

import base64
import json
import struct
import zlib

from synthetic import RUN, START, make_view

from rivers._events.event import StepLog
from rivers._record.view import RunView, ViewState
from rivers.protocol.result import OutputRecord

ATTACK = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def png(width: int, height: int) -> bytes:
    """Return a picture with a gradient."""
    rows = b"".join(
        b"\0" + b"".join(bytes((3 * x % 256, 5 * y % 256, 150)) for x in range(width)) for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


METADATA = {
    "rows": 1234567.5,
    "ok": True,
    "nothing": None,
    "price": [{"name": "ada", "total": 30}, {"name": f"bob {ATTACK}", "total": 12}],
    "notes": {
        "markdown": "# Quality\n\n*fine* and **bold**, [docs](https://example.org), [bad](javascript:alert(3)) "
        f"{ATTACK}\n\n| a | b |\n|:-:|--:|\n| 1 | 2 |\n\n![remote](https://example.org/x.png)\n"
    },
    "link": "https://example.org/report?x=1",
    "evil": "javascript:alert(4)",
    "evil link": {"url": "javascript:alert(5)"},
    "named link": {"url": "https://example.org/", "text": f"The report {ATTACK}"},
    "plot": "data:image/png;base64," + base64.b64encode(png(80, 50)).decode(),
    "script in a picture": "data:text/html,<script>alert(6)</script>",
    "sizes": [1, 2, 3],
    "nested": {"a": {"b": [{"c": 1}]}},
    "text": "line one\nline two",
    "long": "word " * 2000,
    ATTACK: ATTACK,
}


def rich_view() -> RunView:
    """Return the view of a run with one step `clean_08` that has all of it, also in its log."""
    view = make_view(30, mapped=12, failing=0.25, seed=7)
    step = view.steps["clean_08"]
    assert step.state is ViewState.SUCCEEDED
    step.outputs = (OutputRecord(name="result", key=step.key, metadata=json.dumps(METADATA), data_version="v12"),)
    for number in range(700):
        message = ATTACK if number == 0 else f"record {number}"
        step.logs.append(StepLog(run_id=RUN, time=START + 3 + number / 1000, step=step.key, attempt=1, message=message))
    step.log_count = len(step.logs)
    return view
