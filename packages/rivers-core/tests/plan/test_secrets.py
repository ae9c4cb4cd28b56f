"""Secrets in the fields of resources: they do not travel."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, SecretStr
from pydantic_settings import SettingsConfigDict

import rivers as rs
from rivers._plan.refs import Refs
from rivers.exceptions import ConfigurationError
from rivers.protocol import ConfiguredRef


class Vault(rs.Resource):
    vault_token: SecretStr
    url: str = "https://vault"


def test_a_secret_of_the_environment_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that the environment holds is left out of the ref: a worker takes it from its own environment."""
    monkeypatch.setenv("VAULT_TOKEN", "hunter2-canary")

    ref = Refs(b"").object(Vault(url="https://v2"), "none", "resource", "vault")

    assert isinstance(ref, ConfiguredRef)
    assert '{"url":"https://v2"}' == ref.json
    assert Vault(url="https://v2") == Vault.model_validate_json(ref.json)


def test_a_secret_of_the_code_is_refused() -> None:
    """A secret given as an argument could not be made again elsewhere: it is refused by its field's name alone."""
    with pytest.raises(ConfigurationError, match=r"vault_token.*\n.*secrets in the environment") as refused:
        Refs(b"").object(Vault(vault_token=SecretStr("hunter2-canary")), "none", "resource", "vault")

    assert "canary" not in str(refused.value)


class Database(BaseModel):
    host: str = "localhost"
    password: SecretStr
    tokens: list[SecretStr] = []


class Warehouse(rs.Resource):
    model_config = SettingsConfigDict(env_prefix="WAREHOUSE_", env_nested_delimiter="__")

    database: Database
    keys: dict[str, SecretStr] = {}
    name: str = "w"


def test_secrets_of_a_model_within(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets of models, lists and dicts within stay in the environment, too; what is plain travels."""
    monkeypatch.setenv("WAREHOUSE_DATABASE__PASSWORD", "hunter2-canary")
    monkeypatch.setenv("WAREHOUSE_DATABASE__TOKENS", '["canary-1", "canary-2"]')
    monkeypatch.setenv("WAREHOUSE_KEYS", '{"a": "canary-3"}')
    warehouse = Warehouse(database={"host": "h"})  # type: ignore[arg-type]  # as pydantic takes it

    ref = Refs(b"").object(warehouse, "none", "resource", "warehouse")

    assert isinstance(ref, ConfiguredRef)
    assert '{"database":{"host":"h"},"name":"w"}' == ref.json
    assert warehouse == Warehouse.model_validate_json(ref.json)
    assert "hunter2-canary" == warehouse.database.password.get_secret_value()


def test_secrets_in_json_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same where one variable holds the whole model."""
    monkeypatch.setenv("WAREHOUSE_DATABASE", '{"host": "h", "password": "canary"}')

    ref = Refs(b"").object(Warehouse(), "none", "resource", "warehouse")  # type: ignore[call-arg]  # from the environment

    assert isinstance(ref, ConfiguredRef)
    assert '{"database":{"host":"h"},"keys":{},"name":"w"}' == ref.json.replace(',"tokens":[]', "")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"database": {"password": "canary"}}, r"database\.password"),
        ({"database": {"password": "canary", "tokens": ["canary"]}}, r"database\.password"),
        ({"keys": {"a": "canary"}}, "keys"),
    ],
)
def test_secrets_within_of_the_code(monkeypatch: pytest.MonkeyPatch, given: dict[str, object], name: str) -> None:
    """A secret within that the environment does not have is refused by its path."""
    if "keys" in given:
        monkeypatch.setenv("WAREHOUSE_DATABASE__PASSWORD", "canary")
    with pytest.raises(ConfigurationError, match=name) as refused:
        Refs(b"").object(Warehouse(**given), "none", "resource", "warehouse")  # type: ignore[arg-type]  # as pydantic takes it

    assert "canary" not in str(refused.value)


def test_another_secret_than_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that differs from the environment's is refused by its path: a worker would use the wrong one."""
    monkeypatch.setenv("WAREHOUSE_DATABASE__PASSWORD", "another-canary")
    with pytest.raises(ConfigurationError, match=r"these differ: database\.password\n"):
        Refs(b"").object(Warehouse(database={"password": "canary"}), "none", "resource", "warehouse")  # type: ignore[arg-type]  # as pydantic takes it
