"""Tests of the server's parts alone: settings, journal, termination message, memory."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rivers_worker.errors import CredentialsError
from rivers_worker.exit_codes import MAX_OUTCOME_BYTES, write_outcome
from rivers_worker.journal import PER_ENTRY, Journal
from rivers_worker.settings import INTERNAL, ServeSettings
from rivers_worker.v1 import worker_pb2 as pb

NEEDED = {"RIVERS_RUN_ID": "run-1", "RIVERS_ATTEMPT_ID": "a", "RIVERS_CONTROLLER_CERTIFICATE": "eA=="}
INTRUDER = """
import ctypes, os, sys
from rivers_worker.supervisor import protect_this_process

DUMPABLE, SEIZE, NOBODY = 4, 0x4206, 65534
libc = ctypes.CDLL(None, use_errno=True)

def what_a_child_gets():
    child = os.fork()
    if child:
        return os.waitpid(child, 0)
    parent, got = os.getppid(), []
    for name in ("environ", "mem"):
        try:
            open(f"/proc/{parent}/{name}", "rb").close()
            got.append(name)
        except OSError:
            pass
    if libc.ptrace(SEIZE, parent, None, None) == 0:
        got.append("ptrace")
    print(*got, sep=",", flush=True)
    os._exit(0)

if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
libc.prctl(DUMPABLE, 1)
what_a_child_gets()
protect_this_process()
what_a_child_gets()
"""


class TestSettings:
    def test_defaults(self) -> None:
        """Variables that are not set have the documented defaults."""
        settings = ServeSettings.from_environment({**NEEDED, "RIVERS_TERMINATION_LOG": ""})

        assert ("127.0.0.1:0", socket.gethostname()) == (settings.listen, settings.worker)
        assert (120.0, 30.0, 5.0) == (settings.orphan_ttl, settings.grace, settings.heartbeat)
        assert ((), (), False, None) == (
            settings.modules,
            settings.allowed,
            settings.allow_pickle,
            settings.termination_log,
        )

    def test_modules(self) -> None:
        """Modules come from the environment and from the command line, prefixes from the environment alone."""
        env = {**NEEDED, "RIVERS_MODULES": "a, b ,,", "RIVERS_ALLOWED_MODULES": " x.y"}
        settings = ServeSettings.from_environment(env, ["c"])

        assert (("a", "b", "c"), ("x.y",)) == (settings.modules, settings.allowed)

    @pytest.mark.parametrize("value", ["abc", "0", "-1", "nan", "inf", "1e300"])
    @pytest.mark.parametrize(
        "name", ["RIVERS_ORPHAN_TTL", "RIVERS_GRACE", "RIVERS_HEARTBEAT", "RIVERS_MAX_AGE", "RIVERS_IDLE_TTL"]
    )
    def test_seconds_that_are_none(self, name: str, value: str) -> None:
        """A number of seconds that is none names its variable, the value and what is allowed."""
        with pytest.raises(CredentialsError, match=f"invalid {name}='{value}': expected seconds above 0"):
            ServeSettings.from_environment({**NEEDED, name: value})

    def test_a_session(self) -> None:
        """A session's settings come from the environment; without them there is none."""
        env = {**NEEDED, "RIVERS_MAX_ATTEMPTS": "100", "RIVERS_MAX_AGE": "600", "RIVERS_IDLE_TTL": "0.5"}
        alone, session = ServeSettings.from_environment(NEEDED), ServeSettings.from_environment(env)

        assert (None, math.inf, math.inf, ()) == (alone.max_attempts, alone.max_age, alone.idle_ttl, alone.scratch)
        assert (100, 600.0, 0.5) == (session.max_attempts, session.max_age, session.idle_ttl)

    @pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "100001", "²"])
    def test_numbers_that_are_none(self, value: str) -> None:
        """A number of attempts that is none names its variable, the value and what is expected."""
        with pytest.raises(CredentialsError, match=f"invalid RIVERS_MAX_ATTEMPTS='{value}': expected a whole number"):
            ServeSettings.from_environment({**NEEDED, "RIVERS_MAX_ATTEMPTS": value})

    def test_folders(self) -> None:
        """Folders to empty are absolute paths below the root."""
        env = {**NEEDED, "RIVERS_SCRATCH": "/scratch:/var/./cache/"}

        assert (Path("/scratch"), Path("/var/cache")) == ServeSettings.from_environment(env).scratch
        for value in ("scratch", "/", "/a/..", "/a:b"):
            with pytest.raises(CredentialsError, match=r"invalid RIVERS_SCRATCH=.*: expected absolute paths"):
                ServeSettings.from_environment({**NEEDED, "RIVERS_SCRATCH": value})

    def test_all_are_kept_from_the_body(self) -> None:
        """Every variable that a worker reads is one that its body does not see."""
        source = Path(__file__).parents[1] / "src" / "rivers_worker" / "settings.py"
        text = source.read_text()
        read = {word.split('"')[0] for word in text.split('"RIVERS_')[1:]}

        assert {name.removeprefix("RIVERS_") for name in INTERNAL} == read


class TestJournal:
    def test_is_numbered(self) -> None:
        """Entries are numbered from 1, and those after a number are returned in order."""
        journal = Journal()
        for data in (b"a", b"b", b"c"):
            journal.add("step_event", data)

        assert [(1, b"a"), (2, b"b"), (3, b"c")] == [(entry.seq, entry.data) for entry in journal.after(0, 0)]
        assert [3] == [entry.seq for entry in journal.after(2, 0)]
        assert [] == journal.after(3, 0)
        assert [] == journal.after(4, 0)

    def test_drops_the_oldest_logs(self) -> None:
        """Of logs it keeps so many bytes, the newest; of events it drops none."""
        room = 100 * (10 + PER_ENTRY)
        journal = Journal(room)
        journal.add("step_event", b"started")
        for number in range(1000):
            journal.add("step_event", b"%010d" % number, log=True)
            journal.add("step_event", b"between") if number == 500 else None
            kept = [entry for entry in journal.after(0, 0) if entry.log]
            assert len(kept) <= 100
        journal.add("step_event", b"result", last=True)
        entries = journal.after(0, 0)

        assert [b"started", b"between", b"result"] == [entry.data for entry in entries if not entry.log]
        logs = [int(entry.data) for entry in entries if entry.log]
        assert list(range(1000 - len(logs), 1000)) == logs
        assert len(logs) >= 49
        assert [entry.seq for entry in entries] == sorted(entry.seq for entry in entries)

    def test_nothing_follows_the_last(self) -> None:
        """After the last entry nothing is added."""
        journal = Journal()
        journal.add("lost", b"", last=True)
        journal.add("step_event", b"late", log=True)

        assert journal.is_ended
        assert [1] == [entry.seq for entry in journal.after(0, 0)]

    def test_wakes_who_waits(self) -> None:
        """A wait ends with an entry, with `wake`, or after its seconds."""
        journal = Journal()
        began = time.monotonic()
        threading.Timer(0.05, journal.wake).start()
        assert [] == journal.after(0, 20)
        threading.Timer(0.05, journal.add, ["step_event", b"a"]).start()
        assert [1] == [entry.seq for entry in journal.after(0, 20)]
        assert time.monotonic() - began < 10


class TestLastWords:
    def test_fit(self, tmp_path: Path) -> None:
        """What would be cut is not written: half an outcome is none."""
        fits, cut = tmp_path / "fits", tmp_path / "cut"
        write_outcome(str(fits), pb.Outcome(attempt_id="a", step_event=bytes(2900)))
        write_outcome(str(cut), pb.Outcome(attempt_id="a", step_event=bytes(4000)))

        assert fits.read_text().startswith("rivers-outcome 1 ")
        assert len(fits.read_text()) <= MAX_OUTCOME_BYTES
        assert not cut.exists()

    def test_nowhere(self, tmp_path: Path) -> None:
        """A place that cannot be written to ends nothing."""
        write_outcome(str(tmp_path / "no" / "folder"), pb.Outcome())
        write_outcome(None, pb.Outcome())

        assert [] == list(tmp_path.iterdir())

    def test_a_pipe_without_a_reader(self, tmp_path: Path) -> None:
        """A FIFO in the place of the log, which a step may put there, does not keep the result waiting."""
        os.mkfifo(tmp_path / "log")
        writer = threading.Thread(target=write_outcome, args=(str(tmp_path / "log"), pb.Outcome()), daemon=True)
        writer.start()
        writer.join(10)
        is_waiting = writer.is_alive()
        # Ends a thread that waits.
        os.close(os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK))
        writer.join(10)

        assert not is_waiting


def test_the_memory_of_the_server() -> None:
    """A process of the same user, as a body is, reads and traces its parent, until that one protects itself."""
    printed = subprocess.run([sys.executable, "-c", INTRUDER], capture_output=True, text=True, check=True).stdout

    before, after = printed.splitlines()
    assert "environ" in before  # the others are refused on some machines anyway
    assert "" == after
