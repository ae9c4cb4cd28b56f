"""Keys become names: injective, safe, short enough (faults D7, O11)."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rivers._io.files.key import flat_name, object_path
from rivers.exceptions import ConfigurationError

PRINTABLE = st.characters(exclude_categories=["C", "Zl", "Zp"]).filter(str.isprintable)
# What is likely to collide: separators, dots, the escapes and the suffix themselves.
TRICKY = st.lists(
    st.sampled_from(
        [
            "/",
            ".",
            "..",
            "~",
            "%",
            "%2F",
            "%2E",
            "%-",
            ".pkl",
            "a",
            "A",
            ".rivers",
            "[",
            "]",
            "é",
            "\\",
            ":",
            "key-",
            " ",
        ]
    ),
    max_size=8,
).map("".join)
KEYS = st.one_of(TRICKY, st.text(PRINTABLE, max_size=60), st.text("a/.", min_size=100, max_size=512)).filter(
    lambda key: 0 < len(key.encode()) <= 512 and ".." not in key.split("/")
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a loaded machine is no fault of the keys
@given(st.lists(KEYS, min_size=2, max_size=6, unique=True))
def test_injective(keys: list[str]) -> None:
    """Different keys never share a name, neither the readable nor the flat one."""
    assert len(keys) == len({object_path(key) for key in keys}) == len({flat_name(key) for key in keys})


@settings(suppress_health_check=[HealthCheck.too_slow])  # a loaded machine is no fault of the keys
@given(st.lists(KEYS, min_size=2, max_size=6, unique=True))
def test_no_value_is_a_folder(keys: list[str]) -> None:
    """No key's file is a folder on the way to another key's file."""
    paths = {object_path(key) for key in keys}
    folders = {"/".join(path.split("/")[:end]) for path in paths for end in range(1, path.count("/") + 1)}

    assert set() == paths & folders


@given(KEYS)
def test_stays_inside(key: str) -> None:
    """A name is relative, of plain segments of at most 255 bytes, none of them hidden, and fits every store."""
    path = object_path(key)
    segments = path.split("/")

    assert all(0 < len(segment.encode()) <= 255 and not segment.startswith(".") for segment in segments)
    assert len(path.encode()) <= 750
    assert all(unicodedata.category(character) not in {"Cc", "Cs"} and character != "\\" for character in path)


@given(KEYS)
def test_flat_is_one_plain_name(key: str) -> None:
    """A flat name is one ASCII segment that leaves room for a second one, a separator and a suffix."""
    flat = flat_name(key)

    assert flat.isascii()
    assert 0 < len(flat) <= 120
    assert not set("/~") & set(flat)
    assert not flat.startswith(".")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a", "a.pkl"),
        ("graph/task[k=1]", "graph/task[k=1].pkl"),
        ("größe/ä b", "größe/ä b.pkl"),
        ("a.pkl/b", "a%2Epkl/b.pkl"),
        (".rivers/x", "%2Erivers/x.pkl"),
        ("a//b", "a/%/b.pkl"),
        ("/a/", "%/a/%.pkl"),
        ("a%2Fb", "a%252Fb.pkl"),
    ],
)
def test_readable(key: str, path: str) -> None:
    """A key that needs no escaping stays as it is."""
    assert path == object_path(key)


@given(st.one_of(st.text(max_size=30), st.text("./", max_size=6)))
def test_refused_or_printable(key: str) -> None:
    """Any other string is refused with the key and the reason, by a ConfigurationError and nothing else."""
    try:
        object_path(key)
    except ConfigurationError as error:
        if "storage key" not in str(error):
            raise
    else:
        assert key.isprintable()
        assert ".." not in key.split("/")
