"""The file format of the default store: round trips, copies and damage."""

from __future__ import annotations

import gc
import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rivers._io.shared import mapped
from rivers._io.shared.default_store import DefaultStore
from rivers.exceptions import InputLoadError
from rivers.io_handlers import InputContext, OutputContext

LARGE = 100_000  # bytes: mapped, not read


@pytest.fixture
def store(tmp_path: Path) -> DefaultStore:
    """The store as a worker has it."""
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    return DefaultStore(folder=str(folder))


def put(store: DefaultStore, value: object, key: str = "k") -> Path:
    """Store a value outside of any run; return its file."""
    store.handle_output(OutputContext(key), value)
    return Path(str(store.folder), f"{key}.pkl")


def get(store: DefaultStore, key: str = "k") -> Any:
    return store.load_input(InputContext(key))


def same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


sizes = st.sampled_from([0, 1, 7, 63, 64, 65, 4095, 65_500, 65_536, 70_001, 300_000])
leaves = st.one_of(
    st.none(),
    st.integers(),
    st.text(),
    st.binary(),
    sizes.map(bytes),
    sizes.map(bytearray),
    sizes.map(lambda size: np.arange(size, dtype=np.uint8)),
    sizes.map(lambda size: np.arange(size // 8, dtype=np.float64)[::2]),
    sizes.map(lambda size: np.asfortranarray(np.ones((size // 64, 8), dtype=np.int32))),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values)
def test_round_trip(store: DefaultStore, value: object) -> None:
    """Any nesting of plain values, bytes and arrays of any size and layout comes back as it was, types included."""
    put(store, value)

    assert same(value, get(store))


def test_a_buffer_by_itself(store: DefaultStore) -> None:
    """A PickleBuffer comes back as a read-only view of its bytes."""
    put(store, pickle.PickleBuffer(memoryview(b"abc" * LARGE)))

    loaded = memoryview(get(store))
    assert loaded.readonly
    assert b"abc" * LARGE == loaded


def test_more_buffers_than_one_write_takes(store: DefaultStore) -> None:
    """Five thousand arrays in one value, of which the kernel takes 1,024 pieces at once, all come back."""
    arrays = [np.full(number % 50, number) for number in range(5000)]
    put(store, arrays)

    assert same(arrays, get(store))


@pytest.mark.parametrize("count", [10, LARGE])
def test_arrays_are_read_only(store: DefaultStore, count: int) -> None:
    """A loaded array cannot be written to, whatever its size: others read the same memory."""
    put(store, np.arange(count))

    loaded = get(store)
    assert not loaded.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        loaded[0] = 1


def addresses(path: Path) -> list[range]:
    """Return the address ranges of a file in this process's memory."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(path)):
            start, _, end = line.split()[0].partition("-")
            found.append(range(int(start, 16), int(end, 16)))
    return found


def frame() -> Any:
    return pd.DataFrame({"x": np.arange(LARGE)})


def arrow_array() -> Any:
    return pytest.importorskip("pyarrow").array(range(LARGE))


def arrow_table() -> Any:
    return pytest.importorskip("pyarrow").table({"x": range(LARGE)})


@pytest.mark.parametrize(
    ("make", "array_in"),
    [
        (lambda: np.arange(LARGE), lambda value: value),
        (frame, lambda value: value["x"].to_numpy()),
        (arrow_array, lambda value: value.to_numpy()),
        (arrow_table, lambda value: value["x"].chunk(0).to_numpy()),
    ],
    ids=["numpy", "pandas", "Arrow array", "Arrow table"],
)
def test_large_values_are_not_copied(
    store: DefaultStore, make: Callable[[], Any], array_in: Callable[[Any], np.ndarray[Any, Any]]
) -> None:
    """The numbers of a loaded array, table or frame lie in the mapped file itself, at a multiple of 64."""
    path = put(store, make())

    value = get(store)
    array = array_in(value)
    address = array.__array_interface__["data"][0]
    (where,) = addresses(path)
    assert address in where
    assert address + array.nbytes - 1 in where
    assert 0 == address % 64
    assert list(range(LARGE)) == array.tolist()


def test_two_readers_share_one_memory(store: DefaultStore) -> None:
    """Loading a value twice gives two arrays on the same pages: reading 80 MB ten times adds less than 80 MB."""
    put(store, np.ones(10_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loaded = [get(store) for _ in range(10)]
    anonymous = [line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if "Anonymous:" in line]

    assert 10 == len({array.__array_interface__["data"][0] for array in loaded})
    assert before * 1024 + 80_000_000 > int(anonymous[0].split()[1]) * 1024


def test_the_map_outlives_the_file(store: DefaultStore) -> None:
    """An array stays whole when its file is removed, and its map goes when the array goes."""
    path = put(store, np.arange(LARGE))
    loaded = get(store)
    where = addresses(path)[0]
    path.unlink()

    assert LARGE * (LARGE - 1) // 2 == int(loaded[:].sum())
    del loaded
    gc.collect()
    starts = [int(line.partition("-")[0], 16) for line in Path("/proc/self/maps").read_text().splitlines()]
    assert not [start for start in starts if start in where]


def test_maps_hold_no_descriptors(store: DefaultStore) -> None:
    """Hundreds of large values are loaded at once and not one file stays open."""
    put(store, np.arange(LARGE))
    before = len(os.listdir("/proc/self/fd"))
    loaded = [get(store) for _ in range(300)]

    assert len(os.listdir("/proc/self/fd")) <= before  # what earlier tests have left may be collected
    assert 300 == len(loaded)


def test_without_maps(store: DefaultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel maps no more files, values are read, and are read-only all the same."""
    put(store, np.arange(LARGE))
    monkeypatch.setattr(mapped, "_map", lambda fd, size: None)

    loaded = get(store)
    assert not loaded.flags.writeable
    assert LARGE - 1 == loaded[-1]


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes(store: DefaultStore, kind: type) -> None:
    """Large bytes lie beside the pickle, which stays small, and come back as the type they were."""
    value = kind(b"ab" * LARGE)
    path = put(store, value)
    loaded = get(store)

    assert type(loaded) is kind
    assert value == loaded
    assert path.stat().st_size < len(value) + 1000


class TestDamage:
    @pytest.mark.parametrize("value", [7, np.arange(3), np.arange(LARGE)], ids=["plain", "small", "large"])
    def test_cut_short(self, store: DefaultStore, value: object) -> None:
        """A file that ends early, at whatever place, is an InputLoadError that says so, and no other error."""
        path = put(store, value)
        whole = path.read_bytes()
        size = len(whole)
        cuts = {*range(min(size, 300)), *range(size - 200, size), 4095, 4096, 65_535, 65_536, 65_537, size // 2}
        for cut in sorted(cut for cut in cuts if 0 <= cut < size):
            path.write_bytes(whole[:cut])
            with pytest.raises(InputLoadError, match=r"'k' is damaged: .*(cut short|does not|SHA-256)") as caught:
                get(store)
            assert not caught.value.retryable
        path.write_bytes(whole)
        assert same(value, get(store))

    @pytest.mark.parametrize(
        "foreign",
        [b"", b"x", bytes(100_000), pickle.dumps([1] * 100), b"RIVMAP1\n" + b"\xff" * 100, b"RIVPTR1\n" + bytes(90)],
    )
    def test_foreign(self, store: DefaultStore, foreign: bytes) -> None:
        """A file from elsewhere is an InputLoadError that names the asset, whatever is in it."""
        put(store, 1).write_bytes(foreign)

        with pytest.raises(InputLoadError, match="value of 'k' is damaged"):
            get(store)

    def test_header(self, store: DefaultStore) -> None:
        """One flipped bit anywhere before the pickle or in the trailer is found."""
        path = put(store, [np.arange(2), np.arange(3)])
        whole = path.read_bytes()
        for place in (*range(48), *range(len(whole) - 40, len(whole))):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(InputLoadError, match="value of 'k' is damaged"):
                get(store)

    def test_another_key(self, store: DefaultStore) -> None:
        """A value under another key's name is refused; the error names its key."""
        put(store, 1, "other").rename(Path(str(store.folder), "k.pkl"))

        with pytest.raises(InputLoadError, match="'k' is damaged: it holds the value of 'other'"):
            get(store)
