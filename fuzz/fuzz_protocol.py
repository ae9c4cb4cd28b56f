"""Throw hostile bytes at both codecs of the protocol: `python fuzz/fuzz_protocol.py --bytes N --structures N --seed N`.

    golden corpus ──▶ byte mutants        1 to 6 edits of the encoded bytes
                 ──▶ structure mutants    edits of the tree of values, encoded again
    bombs        ──▶ up to 4 MiB made to cost time or memory

Each goes to a decoder, which may return a value or raise SpecDecodeError or a child of it, and nothing else. A value
that is returned must encode and decode to itself. No decode may import a module, take more than 500 ms of this
thread's CPU time (not wall time: other programs run, too) or, all together, raise the process's peak memory by more
than 100 MB.

Prints the seed, counts, the slowest decode and the extra memory; exits with 1 on a violation, with bytes to repeat it.

One file on purpose, though a long one: it is run as a script, and a short form of it is loaded by its path in
packages/rivers-core/tests/protocol/test_fuzz.py.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from rivers.exceptions import SpecDecodeError, SpecTooLargeError
from rivers.protocol import LIMITS, decode_event, decode_spec, encode_event, encode_spec
from rivers.protocol.protobuf import (
    decode_event_protobuf,
    decode_spec_protobuf,
    encode_event_protobuf,
    encode_spec_protobuf,
)
from rivers.protocol.v1 import step_pb2

CORPUS = Path(__file__).resolve().parent.parent / "proto" / "conformance"
MILLISECONDS = 500.0
"""About 150 ms for 4 MiB of 250,000 values on a quiet machine, most of it the walk that counts them."""
MEGABYTES = 100.0

Codec = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]
CODECS: dict[tuple[str, str], Codec] = {
    ("msgpack", "spec"): (decode_spec, encode_spec),
    ("msgpack", "event"): (decode_event, encode_event),
    ("protobuf", "spec"): (decode_spec_protobuf, encode_spec_protobuf),
    ("protobuf", "event"): (decode_event_protobuf, encode_event_protobuf),
}

Seed = tuple[tuple[str, str], bytes]
"""A codec, and bytes for it."""


@dataclass
class Tally:
    """The findings so far; `milliseconds` is the most that one decode may take."""

    milliseconds: float = MILLISECONDS
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    slowest_name: str = ""
    violations: list[str] = field(default_factory=list)

    def judge(self, name: str, codec: tuple[str, str], data: bytes) -> None:
        """Decode once, and record a violation of the promises above."""
        decode, encode = CODECS[codec]
        value = None
        start = time.thread_time()
        try:
            value = decode(data)
        except SpecDecodeError as error:
            kind = type(error).__name__
            self.refused[kind] = self.refused.get(kind, 0) + 1
        except BaseException as error:  # noqa: BLE001 - whatever else comes is what we look for
            self.violate(name, codec, data, f"raised {type(error).__name__}: {error!s:.200}")
        took = (time.thread_time() - start) * 1e3
        if took > self.slowest:
            self.slowest, self.slowest_name = took, f"{name}, {' '.join(codec)}, {len(data)} bytes"
        if took > self.milliseconds:
            self.violate(name, codec, data, f"took {took:.1f} ms")
        if value is None:
            return
        self.accepted += 1
        try:
            same = decode(encode(value)) == value
        except SpecTooLargeError:
            if len(data) < LIMITS.size * 0.9:  # what was left out is written as a default, which may be too much
                self.violate(name, codec, data, "was accepted but is too large when encoded")
        except Exception as error:  # noqa: BLE001 - the same
            self.violate(
                name, codec, data, f"was accepted but not encoded again: {type(error).__name__}: {error!s:.200}"
            )
        else:
            if not same:
                self.violate(name, codec, data, "was accepted but came back as another value")

    def violate(self, name: str, codec: tuple[str, str], data: bytes, what: str) -> None:
        shown = base64.b64encode(data).decode() if len(data) <= 3000 else f"({len(data)} bytes)"
        self.violations.append(f"{name}, {' '.join(codec)}: {what}: {shown}")


def golden() -> list[Seed]:
    """Return every golden value as bytes, for both codecs, and the bytes that must be rejected."""
    seeds: list[Seed] = []
    for path in sorted(CORPUS.glob("v*/*.json")):
        for case in json.loads(path.read_text(encoding="utf-8")):
            takes = case.get("takes") or ("spec" if "spec" in case else "event")
            seeds += [((form, takes), base64.b64decode(case[form])) for form in ("msgpack", "protobuf") if form in case]
    if not seeds:
        raise SystemExit(f"no golden corpus in {CORPUS}")
    return seeds


# ---------------------------------------------------------------------- bytes


def mutate_bytes(rng: random.Random, data: bytes, others: list[Seed]) -> bytes:
    """Make 1 to 6 edits: set a byte, flip a bit, insert, delete or double bytes, cut, or insert a piece of a seed."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(8):
            case 0 | 1 if at < len(out):
                out[at] = rng.randrange(256)
            case 2 | 3 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 4:
                out[at:at] = rng.randbytes(rng.randint(1, 4))
            case 5:
                del out[at : at + rng.randint(1, 8)]
            case 6:
                out[at:at] = out[at : at + rng.randint(1, 32)]
            case 7 if rng.random() < 0.2:
                del out[at:]
            case _:
                other = rng.choice(others)[1]
                cut = rng.randrange(len(other) + 1)
                out[at : at + 8] = other[cut : cut + rng.randint(1, 32)]
    return bytes(out)


# ---------------------------------------------------------------------- msgpack trees

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.0, 1.5, float("nan"), float("inf"),
    -float("inf"), 5e-324, "", "x", "\n", "\x00", "ü" * 300, "s" * 513, "m" * 256, "__main__", "os.path",
    "a.<locals>.b", "import", "local", "pickled", "stored", "inner", "asset", "dynamic", b"", b"\x00" * 32,
    b"\xff\xfe", [], {}, [[]],
    {"kind": "local", "token": "t"}, {"kind": "import", "module": "this", "qualname": "c"}, "{}", "[]", "{", "[" * 40,
    '{"a":' + "[" * 40 + "]" * 40 + "}", '{"a":' + "[" * 5000, "NaN", "1e999", "9" * 5000, '"\\ud800"', "x" * 70_000,
    msgspec.msgpack.Ext(5, b"x"), msgspec.Raw(b"\xd6\xff\x00\x00\x00\x00"), msgspec.Raw(b"\x93\x01"), {"": {}}, {1: 2},
]  # fmt: skip


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key or index) of a tree."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(pairs):
        yield tree, key
        yield from places(value)


def mutate_tree(rng: random.Random, tree: Any, other: Any) -> Any:
    """Make 1 to 3 edits: make a value hostile, delete, double, nest, rename it, or swap it with another tree's."""
    tree = json_copy(tree)
    for _ in range(rng.randint(1, 3)):
        spots = list(places(tree))
        if not spots:
            return rng.choice(HOSTILE)
        holder, key = rng.choice(spots)
        match rng.randrange(8):
            case 0 | 1 | 2:
                holder[key] = json_copy(rng.choice(HOSTILE))
            case 3:
                del holder[key]
            case 4:
                for _ in range(rng.choice((1, 2, 31, 32, 33, 100))):
                    holder[key] = [holder[key]] if rng.random() < 0.5 else {"kind": "stored", "key": holder[key]}
            case 5 if isinstance(holder, list):
                small = sum(1 for _ in places(holder[key])) < 8
                holder.extend([holder[key]] * (rng.choice((1, 10, 3000)) if small else 1))
            case 6 if isinstance(holder, dict):
                holder[rng.choice(("kind", "x", "json", "key", "node", "protocol_version"))] = holder.pop(key)
            case _:
                grafts = list(places(other))
                if grafts:
                    source, name = rng.choice(grafts)
                    holder[key] = json_copy(source[name])
    return tree


def json_copy(tree: Any) -> Any:
    """Copy the containers of a tree."""
    if isinstance(tree, dict):
        return {key: json_copy(value) for key, value in tree.items()}
    return [json_copy(value) for value in tree] if isinstance(tree, list) else tree


# ---------------------------------------------------------------------- protobuf trees

Fields = list[tuple[int, "bytes | Fields"]]
"""A message as (tag, payload): for wire type 2 its content or its fields, else the raw bytes of the value."""


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] > 0x7F:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def parse(data: bytes, descriptor: Any) -> Fields:
    """Take well-formed bytes of a message apart, as far down as its descriptor knows messages."""
    fields: Fields = []
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 2:
            length, at = read_varint(data, at)
            known = descriptor.fields_by_number.get(tag >> 3)
            chunk = data[at : at + length]
            fields.append(
                (tag, parse(chunk, known.message_type) if known is not None and known.message_type else chunk)
            )
            at += length
        else:
            end = at + (8 if tag & 7 == 1 else 4) if tag & 7 in (1, 5) else read_varint(data, at)[1]
            fields.append((tag, data[at:end]))
            at = end
    return fields


def unparse(fields: Fields) -> bytes:
    out = bytearray()
    for tag, payload in fields:
        content = unparse(payload) if isinstance(payload, list) else payload
        out += varint(tag) + (varint(len(content)) if tag & 7 == 2 else b"") + content
    return bytes(out)


def messages(fields: Fields) -> Iterator[Fields]:
    """Yield every message of a tree that has fields."""
    if fields:
        yield fields
    for _, payload in fields:
        if isinstance(payload, list):
            yield from messages(payload)


PAYLOADS = [
    b"",
    b"\x00",
    b"\x7f",
    b"\xff" * 9 + b"\x01",
    b"\xff" * 10,
    b"\xff\xfe",
    b"x" * 600,
    b"[" * 5000,
    b"{}",
    b"__main__",
]


def mutate_message(rng: random.Random, data: bytes, other: bytes, descriptor: Any) -> bytes:
    """Make 1 to 3 edits: renumber, retype, delete, repeat, nest or graft a field, or make it hostile."""
    tree = parse(data, descriptor)
    for _ in range(rng.randint(1, 3)):
        if not tree:
            break
        fields = rng.choice(list(messages(tree)))
        at = rng.randrange(len(fields))
        tag, payload = fields[at]
        match rng.randrange(7):
            case 0:
                fields[at] = (rng.choice((1, 2, 3, 7, 15, 22, 99, 2**29 - 1)) << 3 | tag & 7, payload)
            case 1:
                fields[at] = (tag & ~7 | rng.randrange(8), payload if isinstance(payload, bytes) else unparse(payload))
            case 2:
                del fields[at]
            case 3:
                small = len(payload) < 20 and isinstance(payload, bytes)
                fields[at:at] = [(tag, payload)] * (rng.choice((1, 2, 3000)) if small else 1)
            case 4:
                content = payload if isinstance(payload, bytes) else unparse(payload)
                for _ in range(rng.choice((1, 40, 200))):
                    content = varint(tag | 2) + varint(len(content)) + content
                fields[at] = (tag | 2, content)
            case 5:
                fields[at] = (tag, rng.choice(PAYLOADS))
            case _:
                grafts = list(messages(parse(other, descriptor)))
                fields.insert(at, rng.choice(rng.choice(grafts)) if grafts else (tag, b""))
    return unparse(tree)


def structure_mutants(rng: random.Random, seeds: list[Seed]) -> Iterator[Seed]:
    """Yield structure mutants of the golden values, without end."""
    wholes = [(codec, data) for codec, data in seeds if is_whole(codec, data)]
    by_codec = {codec: [data for other, data in wholes if other == codec] for codec in CODECS}
    descriptors = {"spec": step_pb2.StepSpec.DESCRIPTOR, "event": step_pb2.StepEvent.DESCRIPTOR}
    while True:
        codec, data = rng.choice(wholes)
        other = rng.choice(by_codec[codec])
        if codec[0] == "msgpack":
            tree = mutate_tree(rng, msgspec.msgpack.decode(data), msgspec.msgpack.decode(other))
            yield codec, msgspec.msgpack.encode(tree)
        else:
            yield codec, mutate_message(rng, data, other, descriptors[codec[1]])


def is_whole(codec: tuple[str, str], data: bytes) -> bool:
    try:
        CODECS[codec][0](data)
    except SpecDecodeError:
        return False
    return True


# ---------------------------------------------------------------------- bombs


def table_bombs(base: dict[str, Any]) -> Iterator[tuple[str, tuple[str, str], bytes]]:
    """Yield specs with a table of refs, or with refs to entries that are not there."""
    pack, spec = msgspec.msgpack.encode, ("msgpack", "spec")
    place = {"kind": "object", "parameter": "p", "ref": {"kind": "table", "index": 0}}
    pickled = {"kind": "pickled", "payload": b"p" * LIMITS.pickle, "sha256": b"s" * 32, "hmac": b"h" * 32}
    yield "10,000 entries of one pickle", spec, pack({**base, "inputs": [place] * 10_000, "refs": [pickled]})
    yield "entries that are not there", spec, pack({**base, "inputs": [place] * 10_000})
    yield "a table of 40,000", spec, pack({**base, "refs": [{"kind": "table", "index": 0}] * 40_000})


def bombs() -> Iterator[tuple[str, tuple[str, str], bytes]]:
    """Yield (name, codec, bytes) that are up to 4 MiB long and made to cost time or memory."""
    full = LIMITS.size
    pack = msgspec.msgpack.encode
    ref = {"kind": "import", "module": "m", "qualname": "q"}
    base = {"run_id": "r", "step": "s", "attempt_id": "a", "function": ref}
    spec, event = ("msgpack", "spec"), ("msgpack", "event")
    wide = b"\x81\xa1x"  # {"x": …}: a field that would be ignored
    yield "zeros", spec, bytes(full)
    yield "nested arrays", spec, b"\x91" * full
    yield "nested maps", spec, b"\x81\x01" * (full // 2)
    yield "nested in an ignored field", spec, wide + b"\x91" * (full - 3)
    yield "wide array", spec, wide + b"\xdd" + (full - 8).to_bytes(4, "big") + bytes(full - 8)
    yield "many small arrays", spec, wide + b"\xdd\x00\x03\xd0\x00" + b"\x90" * 0x3D000
    yield "many empty inputs", spec, b"\x81\xa6inputs\xdc\x27\x10" + b"\x80" * 10_000
    yield "many 32 deep", spec, wide + b"\xdc\x1f\x00" + (b"\x91" * 30 + b"\x00") * 0x1F00
    yield "text that is none", spec, b"\x81\xa6run_id\xdb" + (full - 13).to_bytes(4, "big") + b"\xff" * (full - 13)
    yield "long enum value", spec, pack({**base, "node": "z" * (full - 200)})
    yield "long unknown kind", event, pack({"kind": "z" * (full - 200)})
    yield "240,000 tags", spec, pack({**base, "tags": ["t" * 15] * 240_000})
    yield "240,000 tags beyond ASCII", spec, pack({**base, "tags": ["ü" * 7] * 240_000})
    collect = {"kind": "collect", "parameter": "p", "key": "k", "io_handler": ref, "map_keys": ["é" * 7] * 240_000}
    yield "240,000 keys", spec, pack({**base, "inputs": [collect]})
    yield "9,000 metadata", spec, pack({**base, "metadata": {f"k{n}": "v" * 20 for n in range(9_000)}})
    yield "120,000 metadata", spec, pack({**base, "metadata": {f"{n:x}": "" for n in range(120_000)}})
    yield from table_bombs(base)
    long = {"kind": "object", "parameter": "p", "ref": {"kind": "import", "module": "a" * 255, "qualname": "_a" * 127}}
    near = {"kind": "object", "parameter": "p", "ref": {**ref, "module": "_" * 250 + "!"}}
    yield "names that nearly match", spec, pack({**base, "inputs": [long] * 6_000 + [near]})
    for what, text in json_bombs(LIMITS.text - 200):
        literals = [{"kind": "literal", "parameter": "p", "json": text}] * 3
        yield f"JSON of {what}", spec, pack({**base, "inputs": literals, "config": '{"a":' + text + "}"})
    proto, proto_event = ("protobuf", "spec"), ("protobuf", "event")
    head = b"\x12\x01r\x1a\x01s\x2a\x01a\x42\x08\x0a\x06\x0a\x01m\x12\x01q"  # `base` as protobuf
    for number, what in ((10, "inputs"), (11, "outputs"), (22, "inner steps"), (14, "tags"), (1000, "unknown fields")):
        unit = varint(number << 3 | 2) + b"\x00"
        yield f"protobuf of empty {what}", proto, head + unit * ((full - len(head)) // len(unit))
        yield f"protobuf of 240,000 {what}", proto, head + unit * 240_000
    yield "protobuf groups", proto, b"\x0b" * full
    yield "protobuf unknown groups", proto, head + b"\xf3\x3e" * 10_000
    yield "protobuf varints", proto, head + b"\x08\x01" * ((full - len(head)) // 2)
    yield "protobuf long varints", proto, head + b"\x80" * (full - len(head))
    entry = b"\x0a\x04\x0a\x00\x12\x00"
    yield "protobuf map entries", proto, head + b"\x6a" + varint(len(entry) * 60_000) + entry * 60_000
    for what, text in json_bombs(LIMITS.text - 200):
        field_2 = b"\x0a\x01p\x12" + varint(len(text)) + text.encode()
        inner = b"\x22" + varint(len(field_2)) + field_2
        yield f"protobuf JSON of {what}", proto, head + (b"\x52" + varint(len(inner)) + inner) * 3
    record = b"\x0a\x01n\x12\x01k"
    many = (b"\x1a" + varint(len(record)) + record) * 6_000
    yield "protobuf result of 6,000 outputs", proto_event, b"\x1a" + varint(len(many)) + many


def json_bombs(size: int) -> Iterator[tuple[str, str]]:
    """Yield JSON texts of about `size` bytes that are slow to check or large to build."""
    deep = "[" * 31
    close = "]" * 31
    for what, unit in (
        ("empty lists", "[],"), ("empty objects", "{},"), ("empty texts", '"",'), ("bracket texts", '"[",'),
        ("escapes", '"\\\\\\"[",'), ("mixed", '[{"a":[""]}],'), ("numbers", "1,"), ("columns", deep + close + ","),
    ):  # fmt: skip
        yield what, "[" + unit * (size // len(unit) - 1) + "[]]"
    yield "one deep list", "[" * (size // 2) + "]" * (size // 2)
    yield "900 deep lists", "[" + ("[" * 900 + "]" * 900 + ",") * (size // 1801 - 1) + "0]"
    yield "an open list", "[" * size
    yield "one number", "9" * size
    yield "one text", '"' + "\\\\" * (size // 2 - 1) + '"'


# ---------------------------------------------------------------------- the run


def run(rng: random.Random, byte_mutants: int, structures: int) -> Tally:
    """Judge the bombs and this many mutants."""
    tally = Tally()
    seeds = golden()
    for codec, data in seeds:
        tally.judge("golden", codec, data)
    modules = set(sys.modules)
    for name, codec, data in bombs():
        tally.judge(name, codec, data)
    for _ in range(byte_mutants):
        codec, data = rng.choice(seeds)
        tally.judge("byte mutant", codec, mutate_bytes(rng, data, seeds))
    mutants = structure_mutants(rng, seeds)
    for _ in range(structures):
        tally.judge("structure mutant", *next(mutants))
    tally.violations += [f"imported {name}" for name in sorted(set(sys.modules) - modules)]
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description="Throw hostile bytes at both codecs of the protocol.")
    parser.add_argument("--bytes", type=int, default=20_000, help="byte mutants (default 20000)")
    parser.add_argument("--structures", type=int, default=2_000, help="structure mutants (default 2000)")
    parser.add_argument("--seed", type=int, default=None, help="to repeat a run; chosen and printed when left out")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}")
    for codec, data in golden():
        is_whole(codec, data)
    before = peak_memory()
    started = time.perf_counter()
    tally = run(random.Random(seed), options.bytes, options.structures)
    extra = peak_memory() - before
    if extra > MEGABYTES:
        tally.violations.append(f"the peak of memory rose by {extra:.1f} MB")
    print(f"{options.bytes} byte mutants, {options.structures} structure mutants and the bombs "
          f"in {time.perf_counter() - started:.0f} s")  # fmt: skip
    print(f"accepted {tally.accepted}, refused {json.dumps(dict(sorted(tally.refused.items())))}")
    print(f"slowest decode {tally.slowest:.2f} ms ({tally.slowest_name}), peak extra RSS {extra:.1f} MB")
    for violation in tally.violations[:20]:
        print("VIOLATION", violation)
    print(f"{len(tally.violations)} violations")
    return 1 if tally.violations else 0


def peak_memory() -> float:
    """Return the peak memory of this process in MB."""
    # VmHWM of Linux: getrusage would count the parent's memory before exec.
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
