"""Regenerate the stubs of every .proto below this directory: `python proto/generate.py` (`nox -s proto`).

Needs grpcio-tools in exactly the version below, which has wheels for Python 3.9 to 3.12. It is old on purpose: its
protobuf 26.1 is the last that puts no check of the runtime's version into the stubs, so one set of stubs runs on every
protobuf from 5.26 on (tried with 5.29.6, 6.33.6 and 7.36.2). The floor of the extra `[protobuf]` is 5.29.6, the first
release of the 5.x line without known holes (CVE-2025-4565, CVE-2026-0994).

The path of a .proto is the import path of its stubs, so nothing in the generated files is rewritten.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

GRPCIO_TOOLS = "1.63.2"

PROTO = Path(__file__).resolve().parent
PACKAGES = PROTO.parent / "packages"
TARGETS = {
    "rivers/protocol/v1/step.proto": PACKAGES / "rivers-core" / "src",
    "rivers_worker/v1/worker.proto": PACKAGES / "rivers-worker" / "src",
}
"""Which package's source directory the stubs of each .proto go to."""


def main() -> int:
    """Write the stubs; return protoc's exit code, or 1 if another grpcio-tools is installed."""
    installed = importlib.metadata.version("grpcio-tools")
    if installed != GRPCIO_TOOLS:
        print(f"grpcio-tools {installed} is installed; the stubs are made with {GRPCIO_TOOLS}", file=sys.stderr)
        return 1
    for proto, source in TARGETS.items():
        options = [f"--proto_path={PROTO}", f"--python_out={source}", f"--pyi_out={source}"]
        code = subprocess.call([sys.executable, "-m", "grpc_tools.protoc", *options, proto], cwd=PROTO)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
