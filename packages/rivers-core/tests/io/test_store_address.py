"""A handler travels to another process as JSON: with the address of its store, without secrets."""

from __future__ import annotations

import copy
import os
import pickle
import pwd
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest

from rivers._plan.refs import Refs
from rivers.exceptions import ConfigurationError
from rivers.io_handlers import InputContext, OutputContext, PickleIOHandler
from rivers.protocol import ConfiguredRef

obstore = pytest.importorskip("obstore.store")


def _again(handler: PickleIOHandler) -> PickleIOHandler:
    return PickleIOHandler.model_validate_json(handler.model_dump_json())


def test_path_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler on a folder finds the same values after it was rebuilt elsewhere, from a relative path, too."""
    monkeypatch.chdir(tmp_path)
    folder = PickleIOHandler("some dir#1", prefix="/p/", fsync=False)
    folder.handle_output(OutputContext("k"), 1)
    text = folder.model_dump_json()
    monkeypatch.chdir("/")
    rebuilt = PickleIOHandler.model_validate_json(text)

    assert rebuilt == folder
    assert 1 == rebuilt.load_input(InputContext("k"))
    assert (tmp_path / "some dir#1" / "p" / "k.pkl").is_file()


def test_obstore_local_is_the_folder(tmp_path: Path) -> None:
    """An obstore LocalStore and its path are the same place, before and after a round trip."""
    handler = PickleIOHandler(obstore.LocalStore(tmp_path))
    handler.handle_output(OutputContext("k"), 1)

    assert 1 == PickleIOHandler(tmp_path).load_input(InputContext("k"))
    assert 1 == _again(handler).load_input(InputContext("k"))


@pytest.mark.parametrize(
    "url", ["s3://bucket/a/b", "gs://bucket", "gcs://bucket", "az://c", "file:///x/y", "/x", "memory://"]
)
def test_url_round_trip(url: str) -> None:
    """Every URL survives."""
    handler = PickleIOHandler(url, prefix="p")

    assert handler == _again(handler)


def test_obstore_with_options(s3: object, tmp_path: Path) -> None:
    """A bucket with options is opened with the same options by the rebuilt handler."""
    spec = s3.store()  # type: ignore[attr-defined]
    store = obstore.S3Store(
        "bucket",
        prefix="base",
        config=spec["config"],
        client_options={"allow_http": True, "timeout": timedelta(seconds=7)},
        retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=3)},
    )
    handler = PickleIOHandler(store)
    handler.handle_output(OutputContext("k"), 1)
    rebuilt = _again(handler)

    assert 1 == rebuilt.load_input(InputContext("k"))
    assert "s3://bucket/base" == rebuilt.store["url"]
    assert {"allow_http": "true", "timeout": "7s"} == rebuilt.store["client_options"]
    assert 3.0 == rebuilt.store["retry_config"]["retry_timeout"]
    assert rebuilt == _again(rebuilt)


@pytest.mark.parametrize(
    "store",
    [
        lambda: obstore.S3Store("b", access_key_id="id", secret_access_key="canary-value"),
        lambda: obstore.S3Store("b", session_token="canary-value"),
        lambda: obstore.AzureStore("c", account_name="a", account_key="Y2FuYXJ5LXZhbHVl"),
        lambda: obstore.S3Store("b", client_options={"default_headers": {"authorization": "canary-value"}}),
        lambda: {"url": "s3://b", "config": {"aws_secret_access_key": "canary-value"}},
    ],
    ids=["key", "token", "account", "header", "mapping"],
)
def test_secrets_stay(store: object) -> None:
    """A store with a secret of its own does not become JSON; the error names the setting, not the value."""
    handler = PickleIOHandler(store())  # type: ignore[operator]

    with pytest.raises(Exception, match="environment of every process") as caught:
        handler.model_dump_json()
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("store", "variables"),
    [
        (
            lambda: obstore.S3Store("b", access_key_id="i", secret_access_key="canary"),
            {"AWS_SECRET_ACCESS_KEY": "canary"},
        ),
        (lambda: obstore.S3Store("b", token="canary"), {"AWS_SESSION_TOKEN": "canary"}),
        (
            lambda: obstore.AzureStore("c", account_name="a", account_key="Y2FuYXJ5"),
            {"AZURE_STORAGE_ACCOUNT_KEY": "Y2FuYXJ5"},
        ),
        (lambda: {"url": "s3://b", "config": {"aws_session_token": "canary"}}, {"AWS_SESSION_TOKEN": "canary"}),
    ],
    ids=["key", "token", "account", "mapping"],
)
def test_secrets_that_the_environment_has(
    store: Callable[[], object], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that the environment also has is read from there again; without it the error names its variable."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    handler = PickleIOHandler(store())
    text = handler.model_dump_json()

    assert handler == PickleIOHandler.model_validate_json(text)
    assert handler.preflight() is None
    for name, value in variables.items():
        assert value not in text
        monkeypatch.delenv(name)
        assert name in str(PickleIOHandler.model_validate_json(text).preflight())


@pytest.mark.parametrize(
    "store",
    [
        obstore.LocalStore,
        lambda folder: obstore.LocalStore(str(folder)),
        lambda folder: obstore.S3Store("b", prefix="p", region="eu", retry_config={"max_retries": 3}),
        lambda folder: obstore.S3Store("b", config={"endpoint": "http://x"}, client_options={"timeout": "7s"}),
        lambda folder: obstore.AzureStore("c", account_name="a", prefix="p"),
        lambda folder: obstore.GCSStore("b", skip_signature=True),
    ],
    ids=["local", "local text", "s3", "s3 options", "azure", "gcs"],
)
def test_obstore_stores_travel(store: Callable[[Path], object], tmp_path: Path) -> None:
    """An obstore store travels by its URL and its options: a handler elsewhere equals the one here."""
    handler = PickleIOHandler(store(tmp_path), prefix="q")
    ref = Refs(b"").object(handler, "none", "IO handler", "store")

    assert isinstance(ref, ConfiguredRef)
    assert handler == PickleIOHandler.model_validate_json(ref.json)


def test_secrets_are_named_before_the_run() -> None:
    """A store with a secret that the environment lacks is refused by the setting's name, without its value."""
    handler = PickleIOHandler(obstore.S3Store("b", access_key_id="i", secret_access_key="canary"))
    with pytest.raises(ConfigurationError, match=r"store \(.*config\['secret_access_key'\] may be secret") as caught:
        Refs(b"").object(handler, "none", "IO handler", "store")

    assert "canary" not in str(caught.value)
    for given in (handler.store, {"url": "s3://b", "config": {"access_key_id": "i", "secret_access_key": "canary"}}):
        assert "canary" not in repr(PickleIOHandler(given))


def test_relative_obstore_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefix of a LocalStore may be relative; the handler keeps it when the working directory changes."""
    monkeypatch.chdir(tmp_path)
    handler = PickleIOHandler(obstore.LocalStore("values", mkdir=True))
    monkeypatch.chdir("/")
    handler.handle_output(OutputContext("k"), 1)

    assert (tmp_path / "values" / "k.pkl").is_file()


def test_memory_store_stays() -> None:
    """A store in memory is not handed to another process."""
    with pytest.raises(Exception, match="lives in this process only"):
        PickleIOHandler(obstore.MemoryStore()).model_dump_json()


def test_environment_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that a store found in the environment do not travel."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-value")

    assert "canary" not in PickleIOHandler(obstore.S3Store("bucket", region="eu")).model_dump_json()


def test_copies(tmp_path: Path) -> None:
    """A handler in use can be copied and pickled; the copy opens its store anew."""
    handler = PickleIOHandler(tmp_path)
    handler.handle_output(OutputContext("k"), 1)

    for again in (copy.deepcopy(handler), pickle.loads(pickle.dumps(handler)), handler.model_copy()):
        assert 1 == again.load_input(InputContext("k"))


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("s4://bucket", "did you mean s3://"),
        ("file://data", "three slashes"),
        ("s3://id:canary@bucket", "credentials"),
        ("s3://bucket/?token=canary", "got credentials, '\\?' or '#'"),
        ("", "expected a printable path"),
        ("a\nb", "expected a printable path"),
        (3, "expected a path, a URL"),
        ({"uri": "s3://b"}, "expected a mapping that has 'url'"),
    ],
)
def test_refused(store: object, message: str) -> None:
    """An invalid store is refused when the handler is made; the error says what is expected."""
    with pytest.raises(ValueError, match=message) as caught:
        PickleIOHandler(store)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("store", ["~/values", Path("~/values"), "file://~/values", "file:///~/values"], ids=repr)
def test_home_folder(store: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leading ~ is the user's home folder, also in a URL or a mapping; no folder called ~ is made."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for given in (store, {"url": str(store)}):
        handler = PickleIOHandler(given)
        handler.handle_output(OutputContext("k"), 1)

        assert handler == _again(handler)
        assert (tmp_path / "home" / "values" / "k.pkl").is_file()
        assert ["home"] == [path.name for path in tmp_path.iterdir()]


def test_home_folder_of_another_user() -> None:
    """~user is that user's home folder; a user that does not exist is refused, not made a folder."""
    user = pwd.getpwuid(os.getuid())

    assert f"file://{user.pw_dir}/values" == PickleIOHandler(f"~{user.pw_name}/values").store
    with pytest.raises(ConfigurationError, match=r"invalid store='~nobody-of-that-name/x': expected a path"):
        PickleIOHandler("~nobody-of-that-name/x")


@pytest.mark.parametrize("store", ["./~/values", "/~/values"])
def test_folder_called_tilde(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ~ elsewhere than at the beginning is an ordinary name, after a round trip, too."""
    monkeypatch.chdir(tmp_path)
    handler = PickleIOHandler(store)

    assert handler == _again(handler)
    assert os.path.abspath(store) == unquote(handler.store.removeprefix("file://"))
