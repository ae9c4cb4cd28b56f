"""Assets as users write them: at module scope of a module that a worker can import."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator

from pydantic import BaseModel, SecretStr

import rivers as rs


def note(text: str) -> None:
    with open(os.environ["RIVERS_TEST_NOTES"], "a") as notes:
        notes.write(f"{text}\n")


class Client(rs.Resource):
    """A resource with a field, and a connection that it makes where it is used."""

    url: str
    _open: str | None = None

    def setup(self) -> None:
        self._open = f"{self.url} in {os.getpid()}"
        note(f"setup {os.getpid()}")

    def teardown(self) -> None:
        note(f"teardown {os.getpid()}")

    def fetch(self) -> str:
        assert self._open is not None
        return self._open


class Vault(rs.Resource):
    token: SecretStr


class Fragile(rs.Resource):
    """Its end takes the worker with it."""

    def teardown(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Endless(rs.Resource):
    """Its end never comes."""

    def teardown(self) -> None:
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass


class Settings(BaseModel):
    factor: int = 2


# ---- what succeeds --------------------------------------------------------------------------------------------------


@rs.Asset(io_handler="store")
def base() -> int:
    return 20


@rs.Asset(io_handler="store", tags=["t"], group="g", metadata={"owner": "me"})
def described(context: rs.AssetExecutionContext[Settings], base: int) -> list[str]:
    context.add_output_metadata({"rows": 3})
    context.register_data_version("v7")
    value = base * context.config.factor
    return [context.asset_name, str(context.tags), str(context.group), str(context.asset_metadata), str(value)]


@rs.Asset(io_handler="store")
def talkative(base: int) -> int:
    print("printed ünï", base)
    print("to stderr", file=sys.stderr)
    logging.getLogger("mine").warning("logged %s", base)
    sys.stdout.write("\udc80 no newline")
    return base


@rs.Asset(io_handler="store")
async def awaited(base: int) -> int:
    return base + 1


@rs.Asset(io_handler="store")
def generated(base: int) -> Iterator[int]:
    yield base
    yield base + 1


@rs.Asset(io_handler="store")
async def streamed(base: int) -> AsyncIterator[int]:
    yield base
    yield base + 2


@rs.Asset.from_multi(output_defs=[rs.AssetDef("left", io_handler="store"), rs.AssetDef("right", io_handler="store")])
def halves(base: int) -> Iterator[rs.Output]:
    yield rs.Output(base // 2, output_name="left", metadata={"side": "l"})
    yield rs.Output(base // 2 + 1, output_name="right", data_version="r1")


@rs.Task(io_handler="store")
def split(base: int) -> Iterator[rs.DynamicOutput]:
    for key in "abc":
        yield rs.DynamicOutput(key=key, value=f"{key}{base}")


@rs.Task(io_handler="store")
def shout(text: str) -> tuple[str, int]:
    return text.upper(), os.getpid()


@rs.Task(io_handler="store")
def joined(parts: list[tuple[str, int]]) -> list[str]:
    return [text for text, _ in parts]


@rs.Task(io_handler="store")
def sorted_stream(parts: Iterator[tuple[str, int]]) -> list[str]:
    return sorted(text for text, _ in parts)


@rs.Asset.from_graph(io_handler="store")
def mapped(base: int) -> list[str]:
    return joined(split(base).map(shout).collect())


@rs.Asset.from_graph(io_handler="store")
def mapped_stream(base: int) -> list[str]:
    return sorted_stream(split(base).map(shout).collect_stream())


listing = rs.BashTask("listing", command='printf "%s" "$base-$RIVERS_TEST_WORD"', env={"RIVERS_TEST_WORD": "word"})


sleeper = rs.BashTask("sleeper", command='exec 3>"$RIVERS_TEST_FIFO"; echo asleep >&3; sleep 60')


@rs.Task(io_handler="store")
def words(text: str) -> list[str]:
    return text.split("-")


@rs.Asset.from_graph(io_handler="store")
def listed(base: int) -> list[str]:
    return words(listing(base=base))


@rs.Asset.from_graph(io_handler="store")
def sleeps_in_bash() -> str:
    return sleeper()


@rs.Asset(io_handler="store")
def fetched(client: Client) -> str:
    return client.fetch().split(" in ")[0]


# ---- what fails -----------------------------------------------------------------------------------------------------


class Unpicklable(Exception):
    def __init__(self, text: str, code: int) -> None:
        super().__init__(text, code)
        self.lock = threading.Lock()

    def __reduce__(self) -> str:
        raise TypeError("cannot be pickled")


@rs.Asset(io_handler="store")
def raises(base: int) -> int:
    raise ValueError(f"no good: {base}")


@rs.Asset(io_handler="store")
def raises_unpicklable(base: int) -> int:
    raise Unpicklable("held", 3)


@rs.Asset(io_handler="store")
def raises_unprintable(base: int) -> int:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    raise Odd(object())


@rs.Asset(io_handler="store")
def leaves(base: int) -> int:
    sys.exit(3)


@rs.Asset(io_handler="store")
def too_big(base: int) -> int:
    raise MemoryError("17 EiB")


@rs.Asset(io_handler="store")
def wrong_type(base: int) -> int:
    return "text"  # type: ignore[return-value]  # that is the point


@rs.Asset(io_handler="store")
def recurses(base: int) -> int:
    return recurses.function(base)


@rs.Asset(io_handler="store")
def cannot_be_stored(base: int) -> object:
    return threading.Lock()


@rs.Asset(io_handler="store")
def after_raises(raises: int) -> int:
    return raises


# ---- what is killed, hangs or leaves things -------------------------------------------------------------------------


@rs.Asset(io_handler="store")
def killed_once(context: rs.AssetExecutionContext) -> int:
    note(f"attempt {context.attempt}")
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.attempt


@rs.Asset(io_handler="store")
def exits_early() -> int:
    os._exit(0)


@rs.Asset(io_handler="store")
def crashes() -> int:
    import ctypes

    return ctypes.string_at(0)


class DiesAfterCommit(rs.PickleIOHandler):
    def handle_output(self, context: rs.OutputContext, obj: object) -> None:
        super().handle_output(context, obj)
        os.kill(os.getpid(), signal.SIGKILL)


@rs.Asset(io_handler="dying")
def committed() -> int:
    note("body")
    return 7


@rs.Asset(io_handler="store")
def after_committed(committed: int) -> int:
    return committed + 1


@rs.Asset(io_handler="store")
def with_fragile(fragile: Fragile) -> rs.Output:
    return rs.Output(1, metadata={"told": "yes"})


@rs.Asset(io_handler="store")
def with_endless(endless: Endless) -> int:
    return 1


@rs.Asset(io_handler="store", timeout=0.5)
def overdue() -> int:
    time.sleep(60)
    return 1


@rs.Asset(io_handler="store", timeout=0.5)
async def overdue_async() -> int:
    time.sleep(60)  # noqa: ASYNC251 - a body that blocks the loop is the fault
    return 1


@rs.Asset(io_handler="store")
def sleeps() -> int:
    note("asleep")
    try:
        time.sleep(60)
    finally:
        note("cleaned up")
    return 1


@rs.Asset(io_handler="store")
def says_and_sleeps() -> int:
    try:
        print("asleep", flush=True)
        time.sleep(60)
    finally:
        note("cleaned up")
    return 1


@rs.Asset(io_handler="store")
def stubborn() -> int:
    while True:
        try:
            print("asleep", flush=True)
            time.sleep(60)
        except BaseException:
            print("ignored", flush=True)


@rs.Asset(io_handler="store")
def holds_the_gil() -> int:
    while True:
        try:
            print("asleep", flush=True)
            return sum(itertools.repeat(0))  # a loop in C without an end
        except BaseException:
            continue  # it was asked before it had come so far


@rs.Asset(io_handler="store")
def leaves_a_thread() -> int:
    threading.Thread(target=time.sleep, args=(60,), name="straggler").start()
    return 1


@rs.Asset(io_handler="store")
def leaves_a_process() -> int:
    import subprocess

    return subprocess.Popen(["sleep", "60"]).pid


@rs.Asset(io_handler="store")
def forks() -> int:
    """A forked child prints, and lives on with all that its parent had open."""
    read, write = os.pipe()
    if os.fork() == 0:
        print("from the fork", flush=True)
        os.write(write, b"printed")
        time.sleep(60)
        os._exit(0)
    os.close(write)
    note(os.read(read, 100).decode())
    return 1


@rs.Asset(io_handler="store")
def closes_everything() -> int:
    sys.stdout = None  # type: ignore[assignment]  # a fault
    os.closerange(0, 3)
    return 1


@rs.Asset(io_handler="store")
def reads_stdin() -> str:
    return sys.stdin.read()


@rs.Asset(io_handler="store")
def where() -> tuple[int, str, str]:
    return os.getpid(), os.getcwd(), os.environ["RIVERS_TEST_MARK"]


@rs.Asset(io_handler="store", metadata={"rivers/executor": "in_process"})
def here(where: tuple[int, str, str]) -> tuple[int, int]:
    return where[0], os.getpid()


@rs.Task
def first() -> list[int]:
    return [os.getpid()]


@rs.Task
def second(pids: list[int]) -> list[int]:
    return [*pids, os.getpid()]


@rs.Asset.from_graph(
    io_handler="store", metadata={"rivers/executor": "subprocess", "rivers/node/executor": "in_process"}
)
def fused() -> list[int]:
    return second(first())


@rs.Asset.from_graph(io_handler="store")
def per_instance(base: int) -> list[int]:
    return pids(split(base).map(shout).collect())


@rs.Task(io_handler="store")
def pids(parts: list[tuple[str, int]]) -> list[int]:
    return [pid for _, pid in parts]


@rs.Asset(io_handler="store")
def secret(vault: Vault) -> int:
    return len(vault.token.get_secret_value())
