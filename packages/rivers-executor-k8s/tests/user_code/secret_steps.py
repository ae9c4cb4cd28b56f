"""Bodies that hold secrets while things go wrong, and never write them anywhere themselves."""

from __future__ import annotations

import os
import signal

from pydantic import BaseModel, SecretStr

import rivers as rs


class Vault(rs.Resource):
    vault_token: SecretStr


class Settings(BaseModel):
    secret: SecretStr


@rs.Asset
def uses(context: rs.AssetExecutionContext, vault: Vault) -> int:
    context.log.warning("the vault is %s", vault)
    print(vault, flush=True)
    return len(vault.vault_token.get_secret_value())


@rs.Asset
def configured(context: rs.AssetExecutionContext[Settings]) -> int:
    print(context.config, flush=True)
    raise ValueError(f"no good with {context.config}")


@rs.Asset
def raises(vault: Vault) -> int:
    token = vault.vault_token.get_secret_value()
    try:
        return {"token": token}["missing"]  # type: ignore[return-value]
    except KeyError as error:
        error.add_note(f"of {vault}")
        raise ValueError(f"cannot connect by {vault}") from error


@rs.Asset
def exits(vault: Vault) -> int:
    token = vault.vault_token.get_secret_value()
    os._exit(3 if token else 4)


@rs.Asset
def crashes(vault: Vault) -> int:
    token = vault.vault_token.get_secret_value()
    os.kill(os.getpid(), signal.SIGSEGV)
    return len(token)


@rs.Asset
def ends_its_server(vault: Vault) -> int:
    token = vault.vault_token.get_secret_value()
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
    return len(token)
