"""A secret is nowhere to be read: not in manifests, events, failures and logs, whatever goes wrong (X1)."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import inline_steps
import pytest
import secret_steps

import rivers as rs
from rivers.exceptions import GraphValidationError, RiversError
from rivers_k8s_testing import FakeCluster

CANARY = "hunter2-canary-5b1f"
FORMS = [CANARY, base64.b64encode(CANARY.encode()).decode().rstrip("="), CANARY.encode().hex()]
TEMPLATE = {
    "spec": {
        "containers": [
            {
                "name": "rivers-step",
                "env": [
                    {
                        "name": "UNUSED",
                        "valueFrom": {"secretKeyRef": {"name": "vault", "key": "token", "optional": True}},
                    }
                ],
            }
        ]
    }
}


@pytest.fixture
def fake(nothing_is_left: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """A cluster whose containers have the secret in their environment, as a Secret gives it to them."""
    monkeypatch.setenv("VAULT_TOKEN", CANARY)
    with FakeCluster(env={"VAULT_TOKEN": CANARY}) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield cluster


def written(fake: FakeCluster) -> list[str]:
    """All that has ever stood in the cluster – manifests, statuses, termination messages, events – and its logs."""
    objects: list[str] = fake._do(lambda: [change.data.decode() for change in fake._store._history])
    return objects + [fake.log(pod["metadata"]["name"]) for pod in fake.pods()] + list(map(str, fake.requests))


def told(repo: rs.CodeRepository, **more: Any) -> list[str]:
    """All that a run reports: events, result, exception with its traceback."""
    sink = rs.ListSink()
    said: list[str] = []
    try:
        said.append(repr(repo.materialize(on_event=sink, **more)))
    except (RiversError, ValueError) as error:
        said += [repr(error), *traceback.format_exception(error)]
    return said + list(map(repr, sink.events))


def leaks(texts: list[str]) -> list[str]:
    return [text for text in texts for form in FORMS if form in text]


@pytest.mark.parametrize("name", ["uses", "raises", "exits", "crashes", "ends_its_server"])
def test_resource(
    fake: FakeCluster,
    repository: Callable[..., rs.CodeRepository],
    pods: Callable[..., rs.Executor],
    name: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A resource's secret that both environments hold is in none of the artefacts, however the body ends."""
    executor = pods(pod_template=TEMPLATE, keep_failed_pods=True)
    repo = repository(getattr(secret_steps, name), executor=executor, resources={"vault": secret_steps.Vault()})
    texts = told(repo) + written(fake) + list(capfd.readouterr())

    assert any(name in text for text in texts)
    assert any('"secretKeyRef"' in text for text in texts)
    assert [] == leaks(texts)


def test_config(
    fake: FakeCluster, repository: Callable[..., rs.CodeRepository], pods: Callable[..., rs.Executor]
) -> None:
    """A secret in a step's config goes to its worker, and is read nowhere else."""
    repo = repository(secret_steps.configured, executor=pods(keep_failed_pods=True))
    texts = told(repo, config={"configured": {"secret": CANARY}}) + written(fake)

    assert any("no good with secret=SecretStr('**********')" in text for text in texts)
    assert [] == leaks(texts)


def test_secret_of_the_code(
    fake: FakeCluster, repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A secret that only the controller's code knows is refused, by its field's name alone, before anything is made."""
    monkeypatch.delenv("VAULT_TOKEN")
    vault = secret_steps.Vault(vault_token=CANARY)
    with pytest.raises(GraphValidationError, match="vault_token") as caught:
        repository(secret_steps.uses, resources={"vault": vault}).materialize()

    assert [] == leaks(["".join(traceback.format_exception(caught.value)), *written(fake)])
    assert [] == fake.pods()


def test_inline_value(fake: FakeCluster, pods: Callable[..., rs.Executor], tmp_path: Path) -> None:
    """A secret that travels inline is in no object and no log of the cluster, nor in what the run reports."""
    assets = [inline_steps.secret, inline_steps.uses_secret]
    with rs.CodeRepository(assets, default_executor=pods(inline_values=True)) as repo:
        texts = told(repo, record=tmp_path / "records") + written(fake)
        assert len(CANARY) == repo.load_node("uses_secret")

    texts += [path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert any("uses_secret" in text for text in texts)
    assert [] == leaks(texts)
