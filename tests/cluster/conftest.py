"""A namespace for every test, made by `deploy/`, on whatever cluster `KUBECONFIG` names."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from deployed import ROOT, Deployed


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    """A fresh namespace with accounts and Roles, and the store's credentials in a Secret; all of it goes at the end."""
    folder = tmp_path / "deployed"
    folder.mkdir()
    made = Deployed(f"rivers-flights-{uuid.uuid4().hex[:10]}", folder)
    made.apply(ROOT / "deploy")
    try:
        made.make_secret("flights-store", {key: value for key, value in os.environ.items() if key.startswith("AWS_")})
        yield made
    finally:
        made.kubectl("delete", "namespace", made.name, "--wait=false")
