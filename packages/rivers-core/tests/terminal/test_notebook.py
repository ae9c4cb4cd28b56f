"""Progress in a notebook, with a real kernel."""

from __future__ import annotations

import queue
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

sys.path.append(str(Path(__file__).parent))

HERE = Path(__file__).parent
CODE = f"""
import sys, time
sys.path.append({str(HERE)!r})
import rivers as rs
import programs

@rs.Asset
def slow() -> int:
    print("printed <b>by a body</b>")
    time.sleep(0.6)
    return 1

rs.CodeRepository([slow, programs.source, programs.broken]).materialize(raise_on_error=False, progress=True).status
"""


@pytest.fixture(scope="module")
def messages() -> list[dict[str, Any]]:
    """All that the kernel sends for one cell."""
    manager, client = start_new_kernel(kernel_name="python3")
    found: list[dict[str, Any]] = []
    try:
        request = client.execute(CODE)
        end = time.monotonic() + 40
        while time.monotonic() < end:
            try:
                message = client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            found.append(message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return found


def test_one_display_is_updated(messages: list[dict[str, Any]]) -> None:
    """The cell has one HTML display, without widgets or scripts, which is updated and ends with the summary."""
    shown = [m["content"] for m in messages if m["msg_type"] in ("display_data", "update_display_data")]
    assert next(m["msg_type"] for m in messages if "display" in m["msg_type"]) == "display_data"
    assert 1 == len({content["transient"]["display_id"] for content in shown})
    pages = [content["data"]["text/html"] for content in shown]
    assert len(pages) >= 2
    assert any("running" in page for page in pages[:-1])
    assert "✗ Run" in pages[-1]
    assert "✗ </span>" in pages[-1]
    assert "ValueError" in pages[-1]
    assert "return int(&quot;many&quot;) + source" in pages[-1]
    assert not any(word in page for page in pages for word in ("<script", "widget", "<b>", "\x1b"))


def test_prints_stay_in_the_cell(messages: list[dict[str, Any]]) -> None:
    """Printed text of bodies is in the cell as always, and nothing else is on its streams."""
    text = "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")
    assert "printed <b>by a body</b>\n" in text
    assert "Run" not in text
    results = [m["content"]["data"]["text/plain"] for m in messages if m["msg_type"] == "execute_result"]
    assert ["'failure'"] == results
