"""Secrets in the fields of resources: they do not travel."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

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
