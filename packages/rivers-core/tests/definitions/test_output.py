"""What a body hands over: Output and DynamicOutput, refused where they are made when they are wrong."""

from __future__ import annotations

from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import AssetDefinitionError, InvalidMetadataError, ResultDefinitionError


class TestOutput:
    def test_keeps(self) -> None:
        """An Output keeps value, name, metadata and data version."""
        output = rs.Output([1], output_name="a", metadata={"rows": 1, "nested": {"x": [None, 1.5]}}, data_version="v1")

        assert ([1], "a", {"rows": 1, "nested": {"x": [None, 1.5]}}, "v1") == (
            output.value, output.output_name, output.metadata, output.data_version,
        )  # fmt: skip
        assert "Output([1], output_name='a')" == repr(output)

    @pytest.mark.parametrize("field", ["output_name", "data_version"])
    def test_names(self, field: str) -> None:
        """A name or a version that is no str is refused."""
        with pytest.raises(ResultDefinitionError, match=rf"{field}=3.*str"):
            rs.Output(1, **{field: 3})  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("metadata", "message"),
        [
            ({"f": open}, r"invalid metadata\['f'\]=.*: expected a JSON value"),
            ({1: "x"}, "invalid metadata key 1"),
            ([("a", 1)], "expected a dict of JSON"),
            ({"a": "x" * (256 * 1024)}, "bytes as JSON; at most 262144"),
        ],
        ids=["function", "key", "list", "large"],
    )
    def test_metadata(self, metadata: Any, message: str) -> None:
        """Metadata is JSON under str keys, at most 256 KiB; the error names the key."""
        with pytest.raises(InvalidMetadataError, match=message):
            rs.Output(1, metadata=metadata)

    def test_recursive_metadata(self) -> None:
        """Metadata that holds itself is refused and no RecursionError escapes."""
        circle: dict[str, Any] = {}
        circle["self"] = circle

        with pytest.raises(InvalidMetadataError):
            rs.Output(1, metadata=circle)


class TestDynamicOutput:
    @pytest.mark.parametrize("key", ["a", "report_q1", "é", "a b", "x" * 128, "a/b", "0"])
    def test_key(self, key: str) -> None:
        """A mapping key is any printable text of 1 to 128 bytes without brackets."""
        assert (key, 1) == (rs.DynamicOutput(key, 1).key, rs.DynamicOutput(key=key, value=1).value)

    @pytest.mark.parametrize("key", ["", "x" * 129, "é" * 65, "a[b", "a]b", "a\nb", "a\x00", 3, None, b"a"], ids=repr)
    def test_wrong_key(self, key: Any) -> None:
        """Everything else is refused, with what is allowed."""
        with pytest.raises(ResultDefinitionError, match="expected a mapping key, which is"):
            rs.DynamicOutput(key, 1)


class TestDeps:
    def test_kinds(self) -> None:
        """`AssetDef.input` loads a value, `AssetDef.dep` is for the order only; both show how they were made."""
        loaded, ordered = rs.AssetDef.input("a", metadata={"x": "y"}), rs.AssetDef.dep("a")

        assert (True, {"x": "y"}, "AssetDef.input('a')") == (loaded.is_input, loaded.metadata, repr(loaded))
        assert (False, None, "AssetDef.dep('a')") == (ordered.is_input, ordered.metadata, repr(ordered))
        assert isinstance(loaded, rs.DepDef)

    def test_wrong(self) -> None:
        """Their names, handlers and metadata are checked where they are written."""
        wrong: Any = 3
        with pytest.raises(AssetDefinitionError, match="upstream name"):
            rs.AssetDef.dep("")
        with pytest.raises(AssetDefinitionError, match="upstream name"):
            rs.AssetDef.input(wrong)
        with pytest.raises(AssetDefinitionError, match="upstream 'a'"):
            rs.AssetDef.input("a", io_handler=wrong)
        with pytest.raises(InvalidMetadataError, match="upstream 'a'"):
            rs.AssetDef.input("a", metadata={"a": 1})  # type: ignore[dict-item]
