"""Bodies that leave something behind, each in a way of its own, and `look`, which notes all that an attempt can see."""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import errno
import fcntl
import gc
import json
import locale
import logging
import os
import random
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any

from rivers_process.processes import read_process

SCRATCH = Path(os.environ["LEFT_SCRATCH"])
OUTSIDE = Path(os.environ["LEFT_OUTSIDE"])
ABSTRACT = f"\0{OUTSIDE}"
PORT = int(os.environ["LEFT_PORT"])
SLEEP = [sys.executable, "-Sc", "import time; time.sleep(600)"]
LIBC = ctypes.CDLL(None, use_errno=True)
LIMITS = sorted({number for name, number in vars(resource).items() if name.startswith("RLIMIT_")})
PTRACE_SEIZE = 0x4206
KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING = 10, -3
STATE: list[str] = []


# ── what an attempt sees ──


def look() -> None:
    """Note all of it, as one line of JSON."""
    server = os.getppid()
    seen = {
        "processes": sorted(_command(pid) for pid in _below(server) if pid != os.getpid()),
        "files": _tree(SCRATCH, 3),
        "scratch": [oct(SCRATCH.stat().st_mode), *os.listxattr(SCRATCH)],
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        "umask": _umask(),
        "status": _status(),
        "priorities": _priorities("self"),
        "limits": [resource.getrlimit(limit) for limit in LIMITS],
        "streams": [_stream(fd) for fd in (0, 1, 2)],
        "descriptors": sorted(_kinds()),
        "python": _python(),
        "network": _network(),
        "locks": _can_lock(OUTSIDE / "lock"),
        "ipc": _ipc(),
        "key": _has_key(),
        "others": [_other(pid) for pid in (server, fork_server()) if pid],
    }
    with open(os.environ["RIVERS_TEST_NOTES"], "a") as notes:
        notes.write(json.dumps(seen) + "\n")


def fork_server() -> int:
    """The process that starts the processes of attempts, a child of the server; 0 if there is none."""
    return next((pid for pid in _children(os.getppid()) if "fork_server" in _command(pid)), 0)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _below(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        with contextlib.suppress(OSError):
            yield from _below(child)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def _tree(folder: Path, depth: int) -> list[str]:
    found = []
    for path in folder.iterdir():
        found.append(f"{path.relative_to(SCRATCH)!s} {oct(path.lstat().st_mode)}")
        if depth and path.is_dir() and not path.is_symlink():
            found += _tree(path, depth - 1)
    return sorted(found)


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def _status() -> list[str]:
    names = ("SigBlk", "SigIgn", "SigCgt", "ShdPnd", "NoNewPrivs", "Seccomp:", "Threads", "CapEff", "CapBnd")
    return [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(names)]


def _priorities(pid: int | str) -> list[Any]:
    found = set()
    for thread in map(int, os.listdir(f"/proc/{pid}/task")):
        with contextlib.suppress(ProcessLookupError):
            cpus = tuple(sorted(os.sched_getaffinity(thread)))
            io = LIBC.syscall({"x86_64": 252, "aarch64": 31}[os.uname().machine], 1, thread)
            found.add((os.getpriority(os.PRIO_PROCESS, thread), os.sched_getscheduler(thread), cpus, io))
    return sorted(found)


def _stream(fd: int) -> list[Any]:
    mode = os.fstat(fd).st_mode
    info = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    at_end = not stat.S_ISREG(mode) or os.lseek(fd, 0, os.SEEK_CUR) == os.fstat(fd).st_size
    size = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) if stat.S_ISFIFO(mode) else 0
    return [fcntl.fcntl(fd, fcntl.F_GETFL), [line for line in info if line.startswith("lock")], at_end, size]


def _kinds() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]


def _python() -> list[Any]:
    return [
        STATE,
        sorted(vars(builtins)),
        sys.path,
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        gc.isenabled(),
        locale.setlocale(locale.LC_ALL),
        logging.getLogger().level,
        len(warnings.filters),
        len(threading.enumerate()),
        signal.getitimer(signal.ITIMER_REAL),
        tempfile.gettempdir(),
    ]


def _network() -> list[Any]:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        found = [tcp.connect_ex(("127.0.0.1", PORT)), unix.connect_ex(ABSTRACT)]
    with contextlib.closing(socket.socket()) as tcp, contextlib.suppress(OSError):
        tcp.bind(("127.0.0.1", PORT))
        found.append("bound")
    return [*found, ABSTRACT[1:] in Path("/proc/net/unix").read_text()]


def _can_lock(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _ipc() -> list[Any]:
    tables = [Path("/proc/sysvipc", name).read_text().count("\n") for name in ("shm", "sem", "msg")]
    queue = LIBC.mq_open(b"/rivers-left", os.O_RDONLY) >= 0
    return [tables, sorted(os.listdir("/dev/shm")), queue] if os.environ.get("LEFT_CONTAINER") else []


def _has_key() -> bool:
    """Whether the keyring of the session holds a key of this name, or leads to it."""
    keyctl = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    return LIBC.syscall(keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, b"user", b"rivers-left", 0) >= 0


def _other(pid: int) -> list[Any]:
    """What this process sees of one that serves all attempts."""
    score = Path(f"/proc/{pid}/oom_score_adj").read_text().strip()
    stopped = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    return [_priorities(pid), [resource.prlimit(pid, limit) for limit in LIMITS], score, stopped]


# ── processes and threads ──


def start(code: str, **options: Any) -> int:
    """Start Python code; return the id of its process once it has printed a line."""
    process = subprocess.Popen([sys.executable, "-Sc", code], stdout=subprocess.PIPE, **options)
    assert process.stdout is not None
    process.stdout.readline()
    return process.pid


def thread() -> None:
    threading.Thread(target=time.sleep, args=(600,)).start()


def daemon_thread() -> None:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def child() -> None:
    subprocess.Popen(SLEEP)


def child_of_shell() -> None:
    subprocess.run(["sh", "-c", "sleep 600 & sleep 600 &"], check=True)


def session() -> None:
    subprocess.Popen(SLEEP, start_new_session=True)


def double_fork() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()


def stopped_child() -> None:
    os.kill(subprocess.Popen(SLEEP).pid, signal.SIGSTOP)


def deaf_child() -> None:
    """A child that ignores every signal that can be ignored."""
    start(
        "import signal, time\n"
        "for number in {*signal.valid_signals()} - {9, 19}:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "print(flush=True)\n"
        "time.sleep(600)",
        start_new_session=True,
    )


def nested_subreapers() -> None:
    """Each process adopts the orphans below it, and the innermost are orphans."""
    start(
        "import ctypes, os, time\n"
        "for depth in range(5):\n"
        "    ctypes.CDLL(None).prctl(36, 1)\n"
        "    if os.fork(): time.sleep(600)\n"
        "    os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "print(flush=True)\n"
        "time.sleep(600)"
    )


def process_groups() -> None:
    for _ in range(5):
        subprocess.Popen(SLEEP, process_group=0)


def traced_child() -> None:
    """A child that its tracer, another child, has stopped."""
    start(
        "import ctypes, os, signal, time\n"
        "traced = os.fork()\n"
        "if traced == 0:\n"
        "    ctypes.CDLL(None).ptrace(0, 0, 0, 0)\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
        "os.waitpid(traced, 0)\n"
        "print(flush=True)\n"
        "time.sleep(600)"
    )


def headless_child() -> None:
    """A child whose first thread has ended, so that it looks like a zombie, while another goes on."""
    start(
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "print(flush=True)\n"
        "ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[__import__('os').uname().machine], 0)"
    )


def zombies(count: int = 300) -> None:
    """Children that nobody waits for, of a parent that goes on."""
    start(
        "import os, time\n"
        f"for _ in range({count}):\n"
        "    if os.fork() == 0: os._exit(0)\n"
        "print(flush=True)\n"
        "time.sleep(600)"
    )


def many_zombies() -> None:
    zombies(10_000)


def fork_bomb() -> None:
    """Sixty processes in one session, each of which is always another one."""
    start(
        "import os\n"
        "print(flush=True)\n"
        "for _ in range(60):\n"
        "    if os.fork() == 0: break\n"
        "while True:\n"
        "    if os.fork(): os._exit(0)"
    )


def runaway() -> None:
    """A process that is always another one: it forks, in a new session each time, and ends."""
    start("import os\nprint(flush=True)\nwhile True:\n    if os.fork(): os._exit(0)\n    os.setsid()")


def pid_namespace() -> None:
    """A tree with a first process of its own; where namespaces need privileges, an ordinary one."""
    subprocess.Popen(
        ["unshare", "--user", "--pid", "--fork", "--kill-child=SIGCONT", *SLEEP], stderr=subprocess.DEVNULL
    )
    time.sleep(0.05)


def resource_tracker_process() -> None:
    resource_tracker.ensure_running()


# ── files ──


def file_in_scratch() -> None:
    (SCRATCH / "left").write_text("left")


def file_in_tmp() -> None:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"left")


def file_in_cwd() -> None:
    Path("left").write_text("left")


def odd_names() -> None:
    for name in (b".left", b"\xff\xfe", b"a\nb", b"-rf", "ü".encode()):
        (SCRATCH / os.fsdecode(name)).write_text("left")


def many_files() -> None:
    folder = Path(tempfile.mkdtemp())
    for number in range(1000):
        (folder / str(number)).touch()


def deep_tree() -> None:
    """Far deeper than a path can be long, and than Python can recurse."""
    os.chdir(SCRATCH)
    for _ in range(1050):
        os.mkdir("below")
        os.chdir("below")
    Path("left").touch()


def closed_folders() -> None:
    for mode in (0o000, 0o555, 0o111):
        folder = SCRATCH / f"closed {mode:o}"
        (folder / "below").mkdir(parents=True)
        (folder / "left").touch()
        (folder / "left").chmod(0)
        folder.chmod(mode)


def links_to_outside() -> None:
    (SCRATCH / "link").symlink_to(OUTSIDE)
    (SCRATCH / "folder").mkdir()
    (SCRATCH / "folder" / "link").symlink_to(OUTSIDE)
    (SCRATCH / "nowhere").symlink_to("/nowhere")
    os.link(OUTSIDE / "kept", SCRATCH / "hard")


def fifo_and_socket() -> None:
    os.mkfifo(SCRATCH / "fifo")
    socket.socket(socket.AF_UNIX).bind(str(SCRATCH / "socket"))


def sparse_file() -> None:
    os.truncate(os.open(SCRATCH / "sparse", os.O_CREAT | os.O_RDWR), 1 << 40)


def scratch_mode() -> None:
    (SCRATCH / "left").touch()
    SCRATCH.chmod(0)


def scratch_attribute() -> None:
    os.setxattr(SCRATCH, "user.left", b"left")


def setgid_folder() -> None:
    (SCRATCH / "shared").mkdir()
    (SCRATCH / "shared").chmod(0o3777)


def full_disk() -> None:
    with contextlib.suppress(OSError), (SCRATCH / "large").open("wb", buffering=0) as file:
        for _ in range(64):
            file.write(b"x" * (1 << 20))
    assert os.statvfs(SCRATCH).f_bavail == 0
    with contextlib.suppress(OSError):
        for number in range(1000):
            (SCRATCH / f"folder {number}").mkdir()


def page_cache() -> None:
    """1 GB of written pages."""
    with (SCRATCH / "large").open("wb") as file:
        for _ in range(1024):
            file.write(b"x" * (1 << 20))


def changed_file() -> None:
    """Changes a file of the start, and sets its time back."""
    path = SCRATCH / "start" / "file"
    before = path.stat()
    path.write_text("STAYS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def removed_file() -> None:
    (SCRATCH / "start" / "file").unlink()


def removed_cwd() -> None:
    os.rmdir(os.getcwd())


def replaced_scratch() -> None:
    moved = SCRATCH.rename(SCRATCH.with_name("moved"))
    SCRATCH.symlink_to(OUTSIDE)
    (moved / "left").touch()


def immutable_file() -> None:
    (SCRATCH / "immutable").touch()
    subprocess.run(["chattr", "+i", str(SCRATCH / "immutable")], check=True)


def mount() -> None:
    """The folder outside, mounted into the scratch folder."""
    (SCRATCH / "mounted").mkdir()
    subprocess.run(["mount", "--bind", str(OUTSIDE), str(SCRATCH / "mounted")], check=True)


def lock_of_a_child() -> None:
    start(
        "import fcntl, time\n"
        f"file = open({str(OUTSIDE / 'lock')!r}, 'a')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print(flush=True)\n"
        "time.sleep(600)"
    )


# ── the network ──


def abstract_socket() -> None:
    """A daemon that listens on a name without a file."""
    start(
        "import socket, time\n"
        "listening = socket.socket(socket.AF_UNIX)\n"
        f"listening.bind({ABSTRACT!r})\n"
        "listening.listen()\n"
        "print(flush=True)\n"
        "time.sleep(600)",
        start_new_session=True,
    )


def tcp_port() -> None:
    """A child that has inherited a listening socket."""
    listening = socket.create_server(("127.0.0.1", PORT), reuse_port=False)
    subprocess.Popen(SLEEP, pass_fds=[listening.fileno()], start_new_session=True)


# ── its own process ──


def environment() -> None:
    os.environ.update(LEFT="left", PATH="/left", PYTHONPATH="/left", TMPDIR="/left", RIVERS_RUN_ID="left")


def signal_mask() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def dispositions() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def alarm() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 600, 1)


def nice() -> None:
    os.nice(7)


def own_priorities() -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    LIBC.syscall({"x86_64": 251, "aarch64": 30}[os.uname().machine], 1, 0, 3 << 13)


def umask() -> None:
    os.umask(0o777)


def own_limits() -> None:
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_STACK, resource.RLIMIT_NPROC):
        resource.setrlimit(limit, (64, 64))


def cwd() -> None:
    os.chdir("/")


def process_attributes() -> None:
    """No new privileges, a subreaper, a name, no dumps."""
    for call in ((38, 1, 0, 0, 0), (36, 1), (15, b"left"), (4, 0)):
        LIBC.prctl(*call)


def descriptors() -> None:
    for _ in range(50):
        os.set_inheritable(os.dup(1), True)
        os.pipe()


def closed_descriptors() -> None:
    """Closes all that it has, the pipes of rivers but for the one for events among them."""
    os.close(0)
    os.close(2)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)


def python_state() -> None:
    STATE.append("left")
    builtins.left = "left"  # type: ignore[attr-defined]
    builtins.print = len  # type: ignore[assignment]
    sys.path.insert(0, "/left")
    sys.setrecursionlimit(5000)
    sys.setswitchinterval(1.0)
    gc.disable()
    random.seed(0)
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(1)
    sys.addaudithook(lambda *_: None)
    locale.setlocale(locale.LC_ALL, "C.UTF-8")


def memory() -> None:
    STATE.append("x" * (200 << 20))


# ── open files that it shares with the server ──


def nonblocking_output() -> None:
    for fd in (0, 1, 2):
        os.set_blocking(fd, False)


def output_flags() -> None:
    for fd in (1, 2):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) ^ os.O_APPEND | os.O_ASYNC)


def output_lock() -> None:
    fcntl.flock(1, fcntl.LOCK_EX)
    fcntl.fcntl(2, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))


def output_position() -> None:
    os.lseek(1, 0, os.SEEK_SET)


# ── the server and the fork server, from outside ──


def _serving() -> list[int]:
    return [pid for pid in (os.getppid(), fork_server()) if pid]


def server_soft_limits() -> None:
    """Without descriptors the server could accept no call, and read no folder."""
    for pid in _serving():
        for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
            resource.prlimit(pid, limit, (0, resource.prlimit(pid, limit)[1]))


def server_hard_limits() -> None:
    for pid in _serving():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (512, 512))


def server_nice() -> None:
    for pid in _serving():
        for task in map(int, os.listdir(f"/proc/{pid}/task")):
            os.setpriority(os.PRIO_PROCESS, task, 10)


def server_cpus() -> None:
    for pid in _serving():
        for task in map(int, os.listdir(f"/proc/{pid}/task")):
            os.sched_setaffinity(task, {max(os.sched_getaffinity(0))})


def server_io_priority() -> None:
    for pid in _serving():
        LIBC.syscall({"x86_64": 251, "aarch64": 30}[os.uname().machine], 1, pid, 3 << 13)


def server_policy() -> None:
    for pid in _serving():
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))


def server_oom_score() -> None:
    for pid in _serving():
        with contextlib.suppress(PermissionError):
            Path(f"/proc/{pid}/oom_score_adj").write_text("500")


def server_memory() -> None:
    """Tries to trace the processes that serve all attempts, and to read their memory and what they have open."""
    for pid in _serving():
        for attempt in _intrusions(pid):
            try:
                attempt()
            except PermissionError:
                continue
            raise AssertionError(f"process {pid} is open to the attempts that it serves")


def _intrusions(pid: int) -> list[Callable[[], Any]]:
    return [
        lambda: Path(f"/proc/{pid}/environ").read_bytes(),
        lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR),
        lambda: os.open(f"/proc/{pid}/fd/0", os.O_RDONLY),
        lambda: _checked(LIBC.ptrace(PTRACE_SEIZE, pid, None, None)),
        lambda: _checked(LIBC.syscall(438, os.pidfd_open(pid), 0, 0)),  # pidfd_getfd
    ]


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def stopped_fork_server() -> None:
    os.kill(fork_server(), signal.SIGSTOP)


def killed_fork_server() -> None:
    end_fork_server(signal.SIGKILL)


def signalled_fork_server() -> None:
    end_fork_server(signal.SIGUSR1)


def end_fork_server(number: int) -> None:
    """Send it a fatal signal and wait for its end, which may come when the next process was forked already."""
    pid, until = fork_server(), time.monotonic() + 5.0
    os.kill(pid, number)
    while (found := read_process(pid)) is not None and found.state != "Z" and time.monotonic() < until:
        time.sleep(0.001)


def stopped_server() -> None:
    os.kill(os.getppid(), signal.SIGSTOP)


def killed_server() -> None:
    os.kill(os.getppid(), signal.SIGKILL)


def other_user() -> None:
    """A child of another user, which the server may not kill: a stand-in for one that cannot be killed."""
    subprocess.Popen(["sleep", "600"], user=65534, group=65534, extra_groups=[])


def frozen_child() -> None:
    """A child in the freezer: it takes no signal before it is thawed, as in a D state."""
    group = Path(os.environ["LEFT_FREEZER"])
    child = subprocess.Popen(SLEEP)
    (group / "cgroup.procs").write_text(str(child.pid))
    (group / "freezer.state").write_text("FROZEN")
    while (group / "freezer.state").read_text().strip() != "FROZEN":
        time.sleep(0.001)


# ── objects of a container ──


def shared_memory_file() -> None:
    shared_memory.SharedMemory("rivers-left", create=True, size=4096)
    resource_tracker.unregister("/rivers-left", "shared_memory")


def system_v_objects() -> None:
    _checked(LIBC.shmget(0x1EF7, 4096, 0o1600))
    _checked(LIBC.semget(0x1EF7, 1, 0o1600))
    _checked(LIBC.msgget(0x1EF7, 0o1600))


def message_queue() -> None:
    _checked(LIBC.mq_open(b"/rivers-left", os.O_CREAT | os.O_RDWR, 0o600, None))


def session_key() -> None:
    """A key in the keyring of the session, where the kernel has keyrings."""
    add_key = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
    if LIBC.syscall(add_key, b"user", b"rivers-left", b"left", 4, KEY_SPEC_SESSION_KEYRING) < 0:
        assert ctypes.get_errno() in (errno.ENOSYS, errno.EPERM), ctypes.get_errno()
