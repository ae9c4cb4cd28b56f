"""A body that floods fd 1 and 2: the emitted part, the counted part, and the memory."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from runner.fd_host import Host


def left_out(texts: list[str]) -> int:
    return sum(int(text.split()[1]) for text in texts if text.endswith("of output left out …"))


def test_flood_of_lines(run: Callable[..., Host]) -> None:
    """Of 256 MiB of lines the first and the last are emitted, the rest is counted exactly, and memory stays flat."""
    bodies = """
def floods():
    block = (b"x" * 63 + b"\\n") * 1024
    for _ in range(4096):
        os.write(1, block)
    os.write(1, b"the end\\n")
"""
    told = run(bodies, "floods", stdout=subprocess.DEVNULL)
    texts = told.texts("floods")
    lines = [text for text in texts if text == "x" * 63]

    assert 256 * 1024 * 1024 == 64 * len(lines) + left_out(texts)
    assert "the end" == texts[-1]
    assert 64 * 1024 > next(event["grown"] for event in told.seen if "grown" in event), "in KiB"


def test_flood_of_bytes_that_are_no_text(run: Callable[..., Host]) -> None:
    """Of 32 MiB of invalid UTF-8 without a newline, every byte is emitted, replaced, or counted."""
    bodies = """
def floods():
    subprocess.run(["sh", "-c", "head -c 33554432 /dev/zero | LC_ALL=C tr '\\\\0' '\\\\377'"])
"""
    texts = run(bodies, "floods", stdout=subprocess.DEVNULL).texts("floods")

    assert 32 * 1024 * 1024 == sum(text.count("\ufffd") for text in texts) + left_out(texts)
    assert 16 * 1024 >= max(len(text.encode()) for text in texts)


def test_flood_of_prints(run: Callable[..., Host]) -> None:
    """Of 64 MiB of prints each is emitted or counted once; records, forks and the other stream keep their order."""
    bodies = """
def floods():
    for _ in range(1 << 20):
        print("x" * 63)
    print("\\udcff")
    if (child := os.fork()) == 0:
        print("by the fork")
        os._exit(0)
    os.waitpid(child, 0)
    print("before")
    sys.stderr.write("to stderr\\n")
    print("between")
    print("held")
    logging.warning("logged")
    print("after", end="")
"""
    told = run(bodies, "floods")
    texts = told.texts("floods")
    last = ["?", "by the fork", "before", "to stderr", "between", "held", "logged", "after"]

    assert last == texts[-len(last) :]
    assert 64 * 1024 * 1024 == 64 * texts.count("x" * 63) + left_out(texts)
    assert (1 << 20) == told.out.read_text().count("x" * 63)


def test_flood_from_everywhere(run: Callable[..., Host]) -> None:
    """Prints, records and fd 1 share one budget of an attempt: at most 1 MiB at once and 4 MiB at the end."""
    bodies = """
def floods():
    for number in range(100):
        print("x" * 50_000)
        os.write(1, b"y" * 50_000 + b"\\n")
        logging.warning("z" * 10_000)
        sys.stderr.write("x" * 50_000 + "\\n")
"""
    texts = run(bodies, "floods", stdout=subprocess.DEVNULL).texts("floods")
    told = sum(len(text) for text in texts)

    assert 4 * 1024 * 1024 < told < 5.1 * 1024 * 1024
    newlines = 100 * 3
    assert 0 <= told + left_out(texts) - 100 * 160_000 <= newlines + 40
