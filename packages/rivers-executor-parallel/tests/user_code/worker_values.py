"""Assets whose values and exceptions are traps for pickling and unpickling."""

from __future__ import annotations

import os
import threading
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_settings import SettingsConfigDict

import rivers as rs


class Bomb:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


class TwoWords(Exception):
    """Cannot be rebuilt from its args."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class Held(Exception):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Explosive(Exception):
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@rs.Asset(io_handler="store")
def bomb() -> object:
    return Bomb()


@rs.Asset(io_handler="store")
def opens_the_bomb(bomb: object) -> int:
    return 1


@rs.Asset(io_handler="store")
def raises_two_words() -> int:
    raise TwoWords("hello", "world")


@rs.Asset(io_handler="store")
def raises_held() -> int:
    raise Held("held")


@rs.Asset(io_handler="store")
def raises_explosive() -> int:
    raise Explosive("boom")


@rs.Asset(io_handler="store")
def raises_unprintable() -> int:
    raise Unprintable


@rs.Asset(io_handler="store")
def raises_endlessly() -> int:
    """An exception with a text of 50 MB, whose cause is itself."""
    error = ValueError("x" * 50_000_000)
    error.__cause__ = error
    raise error


@rs.Asset(io_handler="store")
def big() -> bytes:
    return bytes(200 << 20)


@rs.Asset(io_handler="store")
def size(big: bytes) -> int:
    return len(big)


@rs.Asset(io_handler="store")
def much_metadata(context: rs.AssetExecutionContext) -> int:
    context.add_output_metadata({"text": "x" * (20 << 20)})
    return 1


class Login(BaseModel):
    user: str
    password: SecretStr


class Warehouse(rs.Resource):
    """Has a secret in a model within."""

    model_config = SettingsConfigDict(env_prefix="WAREHOUSE_", env_nested_delimiter="__")

    login: Login


@rs.Asset
def logged_in(warehouse: Warehouse) -> str:
    return f"{warehouse.login.user}:{len(warehouse.login.password.get_secret_value())}"


def seven() -> int:
    return 7
