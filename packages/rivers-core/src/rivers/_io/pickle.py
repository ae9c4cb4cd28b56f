"""PickleIOHandler: values as pickles in a local folder or a bucket, committed atomically."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    field_validator,
    model_serializer,
)
from pydantic_settings import SettingsConfigDict

from rivers._io.base import AtomicIOHandler, Reach
from rivers._io.context import InputContext, OutputContext
from rivers._io.files import store_address
from rivers._io.files.file_bytes import open_file
from rivers._io.files.local_files import LocalFiles
from rivers._io.files.pickles import check_value, pickle_chunks, unpickle
from rivers._io.files.store_errors import StoreRefusedError
from rivers._io.files.trailer import Damaged, seal
from rivers._io.files.value_files import Chunks, ValueFiles, commit_error, size_of
from rivers._io.memo import Memo, make_memo
from rivers.exceptions import ConfigurationError, InputLoadError, ValueNotFoundError
from rivers.protocol.exception_text import describe_exception

__all__ = ["PickleIOHandler"]

_UNSET: Any = object()


class PickleIOHandler(AtomicIOHandler):
    """An IO handler that stores each value as a pickle (protocol 5) in a folder or in a bucket of S3, GCS or Azure.

        rs.PickleIOHandler("data")                              a folder; also "/data" or "file:///data"
        rs.PickleIOHandler("s3://bucket/folder", prefix="x")    also gs:// and az://; needs rivers-core[objectstore]
        rs.PickleIOHandler(obstore.store.S3Store("bucket"))     any obstore store

    The latest value of `a/b` is `<store>/<prefix>/a/b.pkl`; `pickle.load` can read it. Until a run has ended, its
    values are also kept apart, so that it reads its own values while another run writes. All outputs of a step become
    visible together or not at all, and the first attempt of a step that commits wins. A checksum is stored with each
    value and verified when it is loaded. Keys are case-sensitive, so the file system must be, too.

    Anyone who can write to the store can run code in every process that loads values from it: unpickling runs code.

    Fields also come from the environment: RIVERS_PICKLE_STORE, RIVERS_PICKLE_PREFIX, … Each process finds the
    credentials of a bucket in its own environment, where the store's client looks for them; they never travel.

    Storing raises OutputCommitError for a value that cannot be pickled or stored, loading InputLoadError for one that
    is missing (`retryable`) or damaged. A key with a `..` segment raises ConfigurationError.
    """

    # A store may be given with a secret by mistake: errors must not repeat it.
    model_config = SettingsConfigDict(env_prefix="RIVERS_PICKLE_", frozen=True, hide_input_in_errors=True)

    store: Any
    """A path, a URL, an obstore store, or `{"url": …, "config": {…}}` with obstore's options."""

    prefix: str = ""
    """A folder within the store."""

    shared: bool = False
    """Every machine that runs steps has this folder at this path, as on a network file system; for local folders:
    hard links and renames must be atomic there, which they are on NFS."""

    fsync: bool = True
    """Force each value to disk before it is committed, so that it survives a power cut; for local folders."""

    sweep_after: float = Field(default=7 * 86400.0, gt=0)
    """Age in seconds at which a later run removes what a killed run has left; longer than any run's pause between two
    writes to this store."""

    def __init__(self, store: Any = _UNSET, **values: Any) -> None:
        if store is not _UNSET:
            values["store"] = store
        try:
            super().__init__(**values)
        except ValidationError as error:
            # pydantic wraps what a validator raises; users get the original error.
            for problem in error.errors(include_input=False):
                meant = problem.get("ctx", {}).get("error")
                if isinstance(meant, ConfigurationError):
                    raise meant from None
            raise

    def model_post_init(self, context: Any, /) -> None:
        # A plain attribute: reading one of pydantic's private attributes costs more than a microsecond.
        self._files: ValueFiles | None = None

    @model_serializer(mode="wrap")
    def _omit_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        # A worker of an older rivers does not know the field.
        if not self.shared:
            fields.pop("shared", None)
        return fields

    @property
    def reach(self) -> Reach:
        """Return MACHINE for a folder that is not shared, PROCESS for memory, ANYWHERE for a bucket."""
        scheme = store_address.scheme_of(self.store)
        folder = Reach.ANYWHERE if self.shared else Reach.MACHINE
        return {"file": folder, "memory": Reach.PROCESS}.get(scheme, Reach.ANYWHERE)

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        key, run_id = context.asset_name, context.run_id
        if run_id and context.step and context.step != key:
            super().handle_output(context, obj)
            return
        chunks = self._seal(context, obj)
        files = self._files or self._open()
        files.store(run_id, context.attempt_id, key, chunks)
        self._describe(context, files, size_of(chunks))

    def load_input(self, context: InputContext) -> Any:
        key = context.asset_name
        files = self._files or self._open()
        try:
            data = files.read(context.run_id, key)
            data = check_value(data, key) if data is not None else None
        except Damaged as error:
            raise self._load_error(context, f"is damaged: {error}", retryable=False) from error
        except OSError as error:
            if isinstance(error, StoreRefusedError):
                message = f"cannot be read: {error.strerror}"
                raise self._load_error(context, message, retryable=False, hint=error.hint) from error
            retryable = not isinstance(error, PermissionError)
            raise self._load_error(context, f"cannot be read: {error}", retryable=retryable) from error
        if data is None:
            hint = f"materialize {key!r} first, or include it in the selection"
            raise self._load_error(context, "does not exist", retryable=True, hint=hint, kind=ValueNotFoundError)
        try:
            return unpickle(data)
        except MemoryError:
            raise
        except Exception as error:
            # Unpickling runs code of the value's classes.
            message = f"cannot be unpickled: {describe_exception(error)}"
            raise self._load_error(context, message, retryable=False) from error

    def stage(self, context: OutputContext, obj: Any) -> None:
        chunks = self._seal(context, obj)
        files = self._files or self._open()
        files.stage(context.run_id, context.step, context.attempt_id, context.asset_name, chunks)
        self._describe(context, files, size_of(chunks))

    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        (self._files or self._open()).commit(run_id, step, attempt_id, keys)

    def discard(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        (self._files or self._open()).discard(run_id, step, attempt_id, keys)

    def committed(self, run_id: str, step: str) -> str | None:
        return (self._files or self._open()).committed(run_id, step)

    def retract(self, run_id: str, step: str) -> None:
        (self._files or self._open()).retract(run_id, step)

    def recall(self, context: OutputContext) -> str | None:
        files = self._files or self._open()
        found = files.read_committed(context.run_id, context.asset_name)
        if found is None:
            return None
        names, size = found
        context.data_version = names.version
        self._describe(context, files, size)
        return names.note

    def read_memo(self, key: str) -> Memo | None:
        names = (self._files or self._open()).read_names(key)
        return names.memo() if names is not None else None

    def preflight(self) -> str | None:
        try:
            self._open()
        except ConfigurationError as error:
            return f"{error.message}; {error.hint}" if error.hint else error.message
        return None

    def end_run(self, run_id: str) -> None:
        (self._files or self._open()).end_run(run_id)

    def suspend_run(self, run_id: str) -> None:
        # Of a repository whose runs all fail no run ever ends.
        (self._files or self._open()).sweep()

    # ── fields ───────────────────────────────────────────────────────────────────────────────────────────────────

    @field_validator("store", mode="before")
    @classmethod
    def _check_store(cls, value: object) -> object:
        return store_address.normalize(value)

    @field_validator("sweep_after", mode="before")
    @classmethod
    def _to_seconds(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("expected a number of seconds or a timedelta")
        return value.total_seconds() if isinstance(value, timedelta) else value

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        segments = [segment for segment in value.split("/") if segment]
        if any(segment in {".", ".."} for segment in segments) or not value.isprintable():
            raise ConfigurationError(f"invalid prefix={value!r}: expected printable text without a '.' or '..' segment")
        return "/".join(segments)

    @field_serializer("store")
    def _serialize_store(self, value: Any) -> store_address.Address:
        return store_address.address_to_json(value)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # Options of a store may be secret.
        for name, value in super().__repr_args__():
            yield name, store_address.address_of(value) if name == "store" else value

    def __getstate__(self) -> dict[Any, Any]:
        # A copy in another process opens the store itself.
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], "_files": None}}

    # ── values ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self) -> ValueFiles:
        if store_address.scheme_of(self.store) == "file":
            root = store_address.local_root(self.store)
            root = f"{root.rstrip('/')}/{self.prefix}" if self.prefix else root
            self._files = LocalFiles(root, fsync=self.fsync, sweep_after=self.sweep_after, read_value=open_file)
        else:
            try:
                from rivers._io.files.object_store import ObjectFiles
            except ModuleNotFoundError as error:
                raise ConfigurationError(
                    f"{store_address.address_of(self.store)} needs the package obstore, which is not installed",
                    hint="pip install 'rivers-core[objectstore]'",
                ) from error
            self._files = ObjectFiles(self.store, prefix=self.prefix, sweep_after=self.sweep_after)
        return self._files

    def _seal(self, context: OutputContext, obj: Any) -> Chunks:
        key = context.asset_name
        try:
            body = pickle_chunks(obj)
        except MemoryError:
            raise
        except Exception as error:
            # Pickling runs code of the value's classes.
            raise commit_error(
                f"the value of {key!r}, a {type(obj).__module__}.{type(obj).__qualname__}, cannot be pickled: "
                f"{describe_exception(error)}",
                context.run_id,
                context.step or key,
                retryable=False,
                hint="return data, without open files, locks, connections or local classes, or use another IO handler",
            ) from error
        return *body, seal(body, context.attempt_id, key, memo=make_memo(context, body, obj))

    def _describe(self, context: OutputContext, files: ValueFiles, size: int) -> None:
        context.add_output_metadata(
            {"path": files.path(context.asset_name), "size_bytes": size, "serializer": "pickle"}
        )

    def _load_error(
        self,
        context: InputContext,
        what: str,
        *,
        retryable: bool,
        hint: str | None = None,
        kind: type[InputLoadError] = InputLoadError,
    ) -> InputLoadError:
        key = context.asset_name
        reader = f", an input of {context.downstream_asset!r}," if context.downstream_asset else ""
        path = (self._files or self._open()).path(key)
        if hint is None and not retryable:
            hint = f"materialize {key!r} again"
        error = kind(f"the value of {key!r}{reader} {what} ({path})", hint=hint, run_id=context.run_id)
        error.retryable = retryable
        return error
