"""Keep the secrets of a config out of its run's record, and of what is stored with its values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic
import pytest

import rivers as rs
from rivers.exceptions import ResumeError

SECRET = 'cfg-"key"-7\N{SNOWMAN}7'
PIN = "123"


class Inner(pydantic.BaseModel):
    """A part of a config."""

    pin: pydantic.SecretStr


class Access(pydantic.BaseModel):
    """A config with secrets."""

    key: pydantic.SecretStr
    inner: Inner
    url: str = ""
    limit: int = 1


def make_repository(folder: Path) -> rs.CodeRepository:
    @rs.Asset
    def loaded(context: rs.AssetExecutionContext[Access]) -> str:
        key = context.config.key.get_secret_value()
        context.add_output_metadata({"url": f"x://{key}@host"})
        context.register_data_version(f"v?{key}")
        return context.config.inner.pin.get_secret_value()

    @rs.Asset
    def after(loaded: str) -> int:
        if not (folder / "mended").exists():
            raise ValueError("not yet")
        return len(loaded)

    return rs.CodeRepository([loaded, after], default_io_handler=rs.PickleIOHandler(folder / "data"))


def test_no_secret_of_a_config_is_recorded(tmp_path: Path) -> None:
    """Neither the header, nor an event, nor a trailer has it; to resume the run takes the config again."""
    config: dict[str, Any] = {
        "loaded": {"key": SECRET, "inner": {"pin": PIN}, "url": f"https://{SECRET}@host"},
    }
    arguments: dict[str, Any] = {"record": tmp_path, "raise_on_error": False}
    result = make_repository(tmp_path).materialize(config=config, skip_unchanged=True, **arguments)
    assert result.status == "failure"
    assert result.record is not None
    header = json.loads((result.record / "header.json").read_text())
    assert {"key": "***", "inner": {"pin": "***"}, "url": "https://***@host"} == json.loads(header["configs"]["loaded"])
    escaped = [SECRET, json.dumps(SECRET)[1:-1], json.dumps(SECRET, ensure_ascii=False)[1:-1]]
    forms = [form.encode() for form in (*escaped, *(json.dumps(one)[1:-1] for one in escaped))]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".key":
            data = path.read_bytes()
            assert not [form for form in forms if form in data], path
    (tmp_path / "mended").touch()
    for call in (
        lambda **more: make_repository(tmp_path).resume(result.run_id, record=tmp_path, **more),
        lambda **more: make_repository(tmp_path).materialize(retry_of=result.run_id, record=tmp_path, **more),
    ):
        with pytest.raises(ResumeError, match="the config of loaded held a secret"):
            call()
    # What is no secret is still compared.
    other = {"loaded": {**config["loaded"], "limit": 2}}
    with pytest.raises(ResumeError, match="the config of 'loaded' is another one, in `limit`,"):
        make_repository(tmp_path).resume(result.run_id, config=other, record=tmp_path)
    again = make_repository(tmp_path).resume(result.run_id, config=config, record=tmp_path)
    assert again.success
    assert make_repository(tmp_path).load_node("after") == len(PIN)
