"""JSON objects as values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["FrozenJSON"]


class FrozenJSON(Mapping[str, Any]):
    """A JSON object as a frozen, hashable value that compares by content; nested values come as copies."""

    __slots__ = ("text",)

    def __init__(self, value: Mapping[str, Any]) -> None:
        # Sorted, so that equal objects have equal texts and hashes.
        self.text: str = json.dumps(dict(value), sort_keys=True, allow_nan=False, ensure_ascii=False)

    def __getitem__(self, key: str) -> Any:
        return json.loads(self.text)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(json.loads(self.text))

    def __len__(self) -> int:
        return len(json.loads(self.text))

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, FrozenJSON) else super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return repr(json.loads(self.text))
