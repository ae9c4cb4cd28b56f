"""A namespace to which `deploy/` was applied, as whoever uses it has it: by kubectl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["LACKING", "ROOT", "Deployed"]

ROOT = Path(__file__).parents[2]
NEEDED = ("KUBECONFIG", "RIVERS_TEST_FLIGHTS_IMAGE", "RIVERS_TEST_STORE")
LACKING = [
    *(f"{name} is not set" for name in NEEDED if not os.environ.get(name)),
    *([] if shutil.which("kubectl") else ["there is no kubectl"]),
]
"""Why these tests cannot run here."""


class Deployed:
    """One namespace; every method returns when kubectl has. `folder` is for files that it reads."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder

    def kubectl(self, *arguments: str) -> str:
        """What it prints; the test fails when it fails."""
        command = ["kubectl", "--namespace", self.name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert 0 == done.returncode, f"kubectl {arguments[0]}: {done.stderr}"
        return done.stdout

    def find(self, *arguments: str) -> Any:
        """What `kubectl get` finds: an object, or a list with its `items`."""
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def apply(self, folder: Path, **more: Any) -> None:
        """Apply a kustomization to this namespace, by one on top of it, as somebody writes who leaves it unchanged."""
        here = self._folder / folder.name
        here.mkdir()
        resources = [os.path.relpath(folder, here.resolve())]
        kustomization = {"namespace": self.name, "resources": resources, **more}
        (here / "kustomization.yaml").write_text(json.dumps(kustomization))
        self.kubectl("apply", "--kustomize", str(here))

    def make_secret(self, name: str, values: Mapping[str, str]) -> None:
        """A Secret of these variables."""
        file = self._folder / f"{name}.env"
        file.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        self.kubectl("create", "secret", "generic", name, f"--from-env-file={file}")

    def outsider(self, role: str) -> Path:
        """A kubeconfig of somebody whose only right is this Role."""
        self.kubectl("create", "serviceaccount", "ada")
        self.kubectl("create", "rolebinding", role, f"--role={role}", f"--serviceaccount={self.name}:ada")
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
        token = self.kubectl("create", "token", "ada", "--duration=1h")
        config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
        path = self._folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def ended(self, job: str, seconds: float) -> str:
        """How a Job ended, `Complete` or `Failed`; the test fails when that takes longer."""
        deadline = time.monotonic() + seconds
        while True:
            conditions = self.find("job", job)["status"].get("conditions", [])
            held = {str(condition["type"]) for condition in conditions if condition["status"] == "True"}
            if ending := held & {"Complete", "Failed"}:
                return ending.pop()
            assert time.monotonic() < deadline, f"the Job is not over after {seconds:g} s: {conditions}"
            time.sleep(1)

    def left(self) -> list[str]:
        """The pods of workers and the leases whose deletion nobody has asked for."""
        kinds = ("pods", "--selector=app.kubernetes.io/managed-by=rivers"), ("leases",)
        found = [thing for kind in kinds for thing in self.find(*kind)["items"]]
        kept = [thing for thing in found if "deletionTimestamp" not in thing["metadata"]]
        return [f"{thing['kind']} {thing['metadata']['name']}" for thing in kept]
