"""Addresses of stores, which another process can open: a URL, or a URL with options.

A path becomes a file URL; the class and the bucket of an obstore store become the URL, its settings the options.
Secrets are left out: a worker finds credentials in its own environment, where the store's client looks for them.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from rivers._io.files.store_secrets import move_to_environment, secret_settings
from rivers._io.home import expand_home
from rivers.exceptions import ConfigurationError

__all__ = ["Address", "address_of", "address_to_json", "is_store", "local_root", "normalize", "scheme_of"]

Address: TypeAlias = str | dict[str, Any]
"""A URL, or `{"url": …, "config": …, "client_options": …, "retry_config": …}` as obstore's `from_url` takes them.

`environment` lists the variables that hold secrets of the store; each process that opens it needs them.
"""

_SCHEMES = ("file", "memory", "s3", "s3a", "gs", "gcs", "az", "azure", "adl", "abfs", "abfss")
_ALIASES = {"gcs": "gs"}
_KINDS = {
    "LocalStore": ("file", ""),
    "MemoryStore": ("memory", ""),
    "S3Store": ("s3", "bucket"),
    "GCSStore": ("gs", "bucket"),
    "AzureStore": ("az", "container_name"),
}
"""The scheme of the URL and the setting that names the bucket, by obstore class."""
_OPTIONS = ("config", "client_options", "retry_config", "environment")
_HOME_URL = re.compile(r"file://(?:localhost)?/?(~[^?#]*)").fullmatch


def is_store(value: object) -> bool:
    """Return whether `value` is an obstore store of a supported class."""
    return _kind(value) is not None


def normalize(value: object) -> object:
    """Check the `store` argument and return it as an Address.

    A relative path becomes absolute, as a worker may run in another directory. An obstore store that cannot leave this
    process, because it is in memory or has a secret that the environment lacks, is returned unchanged.

    Raises:
        ConfigurationError: it is no path, URL, mapping or supported obstore store.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return _url(value)
    if isinstance(value, Mapping):
        unknown = sorted(set(value) - {"url", *_OPTIONS})
        if unknown or not isinstance(value.get("url"), str):
            raise ConfigurationError(
                f"invalid store: expected a mapping that has 'url' and may have {sorted(_OPTIONS)}; got {sorted(value)}"
            )
        return _with_options(_url(value["url"]), {name: value.get(name) for name in _OPTIONS})
    if not is_store(value):
        pass
    elif scheme_of(value) == "file":
        return address_of(value)
    elif scheme_of(value) == "memory" or getattr(value, "credential_provider", None) is not None:
        return value
    else:
        address = _with_options(address_of(value), _options_of(value))
        # A store object with a secret is kept: its repr hides the secret, that of a dict would not.
        return value if isinstance(address, dict) and any(secret_settings(address)) else address
    raise ConfigurationError(
        f"invalid store={value!r}: expected a path, a URL ({', '.join(f'{name}://' for name in _SCHEMES)}) or an "
        "obstore LocalStore, MemoryStore, S3Store, GCSStore or AzureStore"
    )


def scheme_of(store: object) -> str:
    """Return `file`, `memory`, or the scheme of a bucket's URL."""
    kind = _kind(store)
    if kind is not None:
        return _KINDS[kind][0]
    url = store["url"] if isinstance(store, dict) else str(store)
    return urlsplit(url).scheme


def local_root(store: Any) -> str:
    """Return the folder of a `file` store."""
    if is_store(store):
        return os.path.abspath(store.prefix or "/")
    return unquote(urlsplit(store["url"] if isinstance(store, dict) else store).path)


def address_of(store: Any) -> str:
    """Return the store's URL for messages, without options and secrets."""
    if not is_store(store):
        return str(store["url"] if isinstance(store, dict) else store).rstrip("/")
    scheme = scheme_of(store)
    if scheme == "memory":
        return "memory:/"
    if scheme == "file":
        return _file_url(local_root(store))
    bucket = store.config[_KINDS[_kind(store) or ""][1]]
    return f"{scheme}://{bucket}/{store.prefix}" if store.prefix else f"{scheme}://{bucket}"


def address_to_json(store: Any) -> Address:
    """Return the Address of a store.

    Raises:
        ConfigurationError: the store is in memory or needs a secret that the environment lacks.
    """
    if isinstance(store, str):
        return store
    if not isinstance(store, dict):
        if scheme_of(store) == "memory":
            raise ConfigurationError(
                "an obstore MemoryStore lives in this process only and cannot be given to another",
                hint="use a path or a bucket for steps that run elsewhere",
            )
        for part, key in secret_settings(_options_of(store)):
            raise _secret(f"{part}[{key!r}]")
        raise _secret("credential_provider")
    for part, key in secret_settings(store):
        raise _secret(f"{part}[{key!r}]")
    return store


def _options_of(store: Any) -> dict[str, Any]:
    return {name: getattr(store, name, None) for name in _OPTIONS}


def _with_options(url: str, options: dict[str, Any]) -> Address:
    """Return the URL with its options as JSON has them, or alone where there are none."""
    options = move_to_environment(urlsplit(url).scheme, options)
    kept = {name: _plain(value) for name, value in options.items() if value}
    return {"url": url, **kept} if kept else url


def _kind(value: object) -> str | None:
    """Return the name of the obstore class of `value`, without importing obstore."""
    for cls in type(value).__mro__:
        if cls.__module__.partition(".")[0] == "obstore" and cls.__name__ in _KINDS:
            return cls.__name__
    return None


def _url(text: str) -> str:
    if any(not character.isprintable() for character in text) or not text:
        raise ConfigurationError(f"invalid store={text[:200]!r}: expected a printable path or URL")
    if "://" not in text:
        return _file_url(os.path.abspath(expand_home(text, "store")))
    url = urlsplit(text)
    home = _HOME_URL(text)
    if home is not None:
        return _file_url(os.path.abspath(expand_home(unquote(home[1]), "store")))
    if url.scheme not in _SCHEMES:
        close = difflib.get_close_matches(url.scheme, _SCHEMES, 1, 0.5)
        raise ConfigurationError(
            f"invalid store={url.scheme}://…: expected a path or one of {', '.join(f'{name}://' for name in _SCHEMES)}"
            f"{f'; did you mean {close[0]}://?' if close else ''}"
        )
    if url.password is not None or url.query or url.fragment:
        raise ConfigurationError(
            f"invalid store={url.scheme}://{url.hostname}/…: expected a bucket and a path; got credentials, '?' or '#'",
            hint="credentials come from the environment; a folder with such a character can be given as a plain path",
        )
    if url.scheme == "file" and (url.netloc not in {"", "localhost"} or not url.path.startswith("/")):
        raise ConfigurationError(f"invalid store={text!r}: expected three slashes and an absolute path, file:///data")
    return f"{_ALIASES.get(url.scheme, url.scheme)}://{text.partition('://')[2]}"


def _file_url(path: str) -> str:
    # A folder whose name is ~ must not become a home folder when the URL is parsed again.
    return "file://" + quote(path).replace("/~", "/%7E")


def _plain(value: Any) -> Any:
    """Return a setting as JSON has it: durations become seconds."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _secret(where: str) -> ConfigurationError:
    return ConfigurationError(
        f"the store's {where} may be secret and does not travel to a worker",
        hint="leave it out of the store and set it in the environment of every process that opens the store",
    )
