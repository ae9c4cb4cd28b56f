"""Write the picture of a run: one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from functools import cache
from pathlib import Path

import msgspec

from rivers._record.redact import Redactor
from rivers._record.view import RunView
from rivers._report.data import Json, page_data

__all__ = ["encode", "page_html", "report_html", "write_report"]

PAGE = Path(__file__).parent / "page"
"""The folder of the bundle that `picture/` in the repository builds."""


def write_report(view: RunView, path: str | os.PathLike[str], redactor: Redactor | None = None) -> Path:
    """Write the picture of a run to a file and return its path; the file is replaced whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(path).expanduser()
    text = report_html(view, redactor).encode("utf-8", "replace")
    # A pipe or a terminal is written, not replaced.
    if target.exists() and not target.is_file():
        target.write_bytes(text)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name[:100]}-{os.getpid()}")
    try:
        partial.write_bytes(text)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def report_html(view: RunView, redactor: Redactor | None = None) -> str:
    """Return the picture of a run as the text of an HTML page.

    The record of a run is redacted already; give the redactor of a run whose events come from the run itself.
    """
    encoded = encode(page_data(view))
    if redactor is not None:
        encoded = redactor.line(encoded)
    title = (
        f"{(view.header.repository if view.header is not None else '') or 'run'} · {view.run_id[:8]} · {view.status}"
    )
    return page_html(encoded.decode("utf-8", "replace"), redactor.text(title) if redactor is not None else title)


def encode(data: Json) -> bytes:
    """Return data as JSON, also where a text holds half of a surrogate pair, which UTF-8 has no bytes for."""
    try:
        return msgspec.json.encode(data)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(data)).encode()


def page_html(data: str, title: str, *, live: str = "") -> str:
    """Return the page around its data, which is JSON text; `live` is the address of its events for a page that is live.

    The policy allows the page's own script by its hash and nothing else: neither the network nor a script that a name
    or a log smuggles in.
    """
    page, script, style = _parts()
    # By its hash: a page in a file has no header that could carry a nonce.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"
    network = "'self'" if live else "'none'"
    policy += f"; connect-src {network}; base-uri 'none'; form-action 'none'"
    fields = {
        "policy": policy,
        "title": _escape(title),
        "style": style,
        "live": _escape(live),
        "data": _escape_json(data),
        "script": script,
    }
    for name, value in fields.items():
        before, _, after = page.partition(f"<!--{name}-->")
        # Values stand in what was cut off already, so that a value with such a mark in it replaces nothing.
        fields[name] = before + value
        page = after
    return "".join(fields.values()) + page


@cache
def _parts() -> tuple[str, str, str]:
    page, script, style = ((PAGE / name).read_text("utf-8") for name in ("page.html", "page.js", "page.css"))
    return page, script, style


def _escape(text: str) -> str:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, entity)
    return text


def _escape_json(text: str) -> str:
    """Escape what could end the script element, or a line of a script; JSON allows both within strings only."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
