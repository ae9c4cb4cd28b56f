"""Write the bytes of golden values that have none: `python proto/conformance/fill.py`, with rivers-core[protobuf].

Bytes that are there are never touched: they are what a released peer sends, and must be decoded for ever.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import msgspec

from rivers.protocol import StepEvent, StepSpec, encode_event, encode_spec
from rivers.protocol.protobuf import encode_event_protobuf, encode_spec_protobuf

CORPUS = Path(__file__).resolve().parent


def main() -> int:
    """Fill in `msgpack` and `protobuf` of every case of a specs.json or events.json that lacks them."""
    for path in sorted(CORPUS.glob("v*/*.json")):
        cases = json.loads(path.read_text(encoding="utf-8"))
        for case in cases:
            if "error" in case or "msgpack" in case:
                continue
            text = json.dumps(case.get("spec") or case["event"])
            if "spec" in case:
                spec = msgspec.json.decode(text, type=StepSpec)
                encoded = encode_spec(spec), encode_spec_protobuf(spec)
            else:
                event = msgspec.json.decode(text, type=StepEvent)
                encoded = encode_event(event), encode_event_protobuf(event)
            case["msgpack"], case["protobuf"] = (base64.b64encode(data).decode() for data in encoded)
            print(f"{path.name}: {case['name']}")
        path.write_text(json.dumps(cases, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
