"""Output of native code and child processes on fd 1 and 2, in a process that belongs to its runner."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable

import pytest
from runner.fd_host import Host


def test_order_of_all_that_write(run: Callable[..., Host]) -> None:
    """Prints, records and output of native code and children are emitted and forwarded in the order written."""
    bodies = """
def order():
    os.write(1, b"a\\n")
    print("b")
    os.system("echo c")
    logging.warning("d")
    sys.stdout.buffer.write(b"e\\n")
    print("f")
    ctypes.CDLL(None).puts(b"g")
    print("h")
    subprocess.run(["sh", "-c", "echo i"])
    ctypes.CDLL(None).puts(b"j")
"""
    told = run(bodies, "order")

    assert list("abcdefghij") == told.texts("order")
    assert "abcefghij" == told.out.read_text().replace("\n", "")


def test_order_in_a_hurry(run: Callable[..., Host]) -> None:
    """The order holds where nothing waits: each line of 500 rounds through four ways comes in its place."""
    bodies = """
def hurries():
    sys.setswitchinterval(10)
    for number in range(500):
        os.write(1, f"{number} fd\\n".encode())
        print(number, "print")
        os.write(2, f"{number} fd 2\\n".encode())
        logging.warning("%d log", number)
"""
    told = run(bodies, "hurries")
    expected = [f"{number} {way}" for number in range(500) for way in ("fd", "print", "fd 2", "log")]

    assert expected == told.texts("hurries")


def test_streams_are_told_apart(run: Callable[..., Host]) -> None:
    """Output on fd 2 is emitted as stderr, and forwarded to stderr."""
    told = run("def warns():\n    os.system('echo oops >&2')", "warns")

    assert {"stderr"} == told.streams("warns")
    assert "oops\n" == told.err.read_text()
    assert "" == told.out.read_text()


def test_told_while_the_body_runs(start: Callable[..., Host]) -> None:
    """A line of a child process is emitted while the body still waits, without any print that would drain it."""
    bodies = """
def waits():
    child = subprocess.Popen(["sh", "-c", "echo ready; read line; echo $line"], stdin=int(os.environ["GO"]))
    child.wait()
"""
    go, send = os.pipe()
    with start(bodies, "waits", fds=(go,), env={"GO": str(go)}) as told:
        os.close(go)
        told.until(lambda event: event.get("text") == "ready")
        os.write(send, b"gone on\n")
        os.close(send)
        told.finish()

    assert ["ready", "gone on"] == told.texts("waits")


def test_attempts_do_not_mix(run: Callable[..., Host]) -> None:
    """Attempts one after another each get what their own children wrote, also a last line without an end."""
    names = [f"step{number}" for number in range(20)]
    bodies = "".join(f"def {name}():\n    os.system('printf {name}; printf {name} >&2')\n" for name in names)
    told = run(bodies, *names)

    assert [[name, name] for name in names] == [told.texts(name) for name in names]


def test_between_attempts(run: Callable[..., Host]) -> None:
    """Output between attempts, even a full pipe of it, is forwarded and not emitted."""
    bodies = """
sys.setswitchinterval(10)
def first(): os.write(1, b"one\\n")
def between():
    print("the worker itself")
    os.write(1, b"." * 200_000 + b"\\n")
def second(): os.write(1, b"two\\n")
"""
    told = run(bodies, "first", "between", "second")

    assert ["one", "two"] == [event["text"] for event in told.seen if "text" in event]
    assert "one\nthe worker itself\n" + "." * 200_000 + "\ntwo\n" == told.out.read_text()


def test_characters_are_whole(run: Callable[..., Host]) -> None:
    """A character whose bytes arrive in two writes, or at a cut of a long line, stays whole."""
    bodies = """
def writes():
    for byte in "€\\n".encode():
        os.write(1, bytes([byte]))
    os.write(1, b"x" + "€".encode() * 20_000)
"""
    texts = run(bodies, "writes").texts("writes")

    assert "€" == texts[0]
    assert "x" + "€" * 20_000 == "".join(texts[1:])


def test_without_a_console(run: Callable[..., Host]) -> None:
    """A process with fd 0, 1 and 2 closed and no sys.stdout still captures prints and writes."""
    bodies = """
def speaks():
    print("printed")
    os.system("echo child; echo oops >&2")
"""
    told = run(bodies, "speaks", before=["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-'])

    assert ["printed", "child", "oops"] == told.texts("speaks")


BREAKING = {
    "closes fd 1 and 2": "os.close(1); os.close(2); print('lost'); os.system('echo lost')",
    "puts other files there": "null = os.open(os.devnull, os.O_WRONLY); os.dup2(null, 1); os.dup2(null, 2)",
    "swaps them": "saved = os.dup(1); os.dup2(2, 1); os.dup2(saved, 2); os.close(saved)",
    "sets the streams to None": "sys.stdout = sys.stderr = None; print('lost')",
    "closes the streams": "sys.stdout.close(); sys.stderr.close()",
    "clears the log handlers": "logging.root.handlers.clear()",
    "makes fd 1 not wait": "os.set_blocking(1, False)",
}


@pytest.mark.parametrize("how", BREAKING)
def test_a_body_that_breaks_its_output(start: Callable[..., Host], how: str) -> None:
    """The output of the next attempt is complete, whatever a body does to fd 1 and 2, sys.stdout and logging."""
    bodies = f"""
def breaks():
    {BREAKING[how]}
def order():
    assert os.get_blocking(1) and os.get_blocking(2)
    os.write(1, b"a\\n")
    print("b")
    os.system("echo c")
    logging.warning("d")
    os.system("echo e >&2")
    print("f", file=sys.stderr)
"""
    with start(bodies, "breaks", "order") as told:
        told.until(lambda event: "ending" in event and event["attempt"] == "order")

    assert ["succeeded"] * 2 == [event["ending"] for event in told.seen if "ending" in event]
    assert list("abcdef") == told.texts("order")


def test_forks_are_told(run: Callable[..., Host]) -> None:
    """Prints, writes and warnings of a fork are output of the attempt, and the fork has none of our files."""
    bodies = """
def forks():
    print("body")
    if (child := os.fork()) == 0:
        print("printed by", "the fork")
        os.write(1, b"written by the fork\\n")
        logging.warning("a warning")
        print("left open", [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd not in before], end="")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
before = {*map(int, os.listdir("/proc/self/fd"))}
"""
    told = run(bodies, "forks")
    expected = ["body", "printed by the fork", "written by the fork", "WARNING:root:a warning", "left open []"]

    assert sorted(expected) == sorted(told.texts("forks"))


def test_children_inherit_three_files(run: Callable[..., Host]) -> None:
    """A child that closes nothing has fd 0, 1 and 2 and no other; the pipes of the capture stay in the process."""
    told = run("def lists():\n    os.system('ls /proc/$$/fd; :')", "lists")

    assert ["0", "1", "2"] == [fd for fd in told.texts("lists") if int(fd) < 10]


def test_threads_are_told(run: Callable[..., Host]) -> None:
    """Output of a body's thread, which lacks the attempt's context, belongs to the attempt."""
    bodies = """
def starts():
    thread = threading.Thread(target=print, args=("from a thread",))
    thread.start()
    thread.join()
"""
    assert ["from a thread"] == run(bodies, "starts").texts("starts")


WRITES = """
def writes():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for number in range(2000):
        os.write(1, b"w" * 99 + b"\\n")
        print("p" * 99)
"""


def test_nobody_reads_any_more(run: Callable[..., Host]) -> None:
    """Without a reader of the old fd 1 the step succeeds with all its output, also with the default of SIGPIPE."""
    readable, writable = os.pipe()
    os.close(readable)
    try:
        told = run(WRITES, "writes", stdout=writable)
    finally:
        os.close(writable)

    assert ["w" * 99, "p" * 99] * 2000 == told.texts("writes")


@pytest.mark.parametrize("kind", ["pipe", "pipe that does not wait", "terminal"])
def test_nobody_reads(run: Callable[..., Host], kind: str) -> None:
    """If the old fd 1 is full and has no reader, the step goes on with all its output."""
    try:
        readable, writable = pty.openpty() if kind == "terminal" else os.pipe()
    except OSError as error:
        pytest.skip(f"no terminal can be opened here: {error}")
    os.set_blocking(writable, kind != "pipe that does not wait")
    try:
        told = run(WRITES, "writes", stdout=writable)
    finally:
        os.close(readable)
        os.close(writable)

    assert ["w" * 99, "p" * 99] * 2000 == told.texts("writes")


def test_signals_are_left_to_the_body(run: Callable[..., Host]) -> None:
    """A body may block a signal and wait for it: the thread that drains does not take it."""
    bodies = """
def waits():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    print(signal.sigwait([signal.SIGUSR1]).name)
"""
    assert ["SIGUSR1"] == run(bodies, "waits").texts("waits")


def test_nothing_is_installed_where_nobody_listens(run: Callable[..., Host]) -> None:
    """Without capture fd 1 stays what it was, and there is no thread."""
    bodies = """
before = os.fstat(1).st_ino
def body():
    assert before == os.fstat(1).st_ino
    assert 1 == threading.active_count()
"""
    assert [] == run(bodies, "body", capture=False).texts("body")
