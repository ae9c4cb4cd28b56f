"""Start a command where a worker's attempts are to be isolated.

python isolated.py user FOLDER COMMAND…         without the capabilities of root, in FOLDER/scratch/cwd
python isolated.py user+setuid FOLDER COMMAND…  the same, but it can start processes of other users
python isolated.py container FOLDER COMMAND…    in namespaces of its own, with a scratch folder of 8 MB
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

PR_CAPBSET_DROP = 24
CAP_SETGID, CAP_SETUID = 6, 7
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--ipc", "--kill-child", "--mount-proc"]


def can_unshare() -> bool:
    """Return whether this user can make the namespaces of a container."""
    return subprocess.run([*namespaces(), "true"], capture_output=True, check=False).returncode == 0


def namespaces() -> list[str]:
    """Return the command that makes them: a user who is not root becomes root of a user namespace."""
    return NAMESPACES if os.getuid() == 0 else [*NAMESPACES, "--map-root-user"]


def prefix(kind: str, folder: Path) -> list[str]:
    """Return the words to put before a command."""
    words = [sys.executable, str(Path(__file__)), kind, str(folder)]
    return [*namespaces(), *words] if kind == "container" else words


def prepare(kind: str, folder: Path) -> None:
    """Set this process up for a command."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    if kind == "container":
        mount("tmpfs", scratch, "size=8m")
        mount("tmpfs", Path("/dev/shm"))
        # Any folder will do: not every machine has one for it in /dev.
        (folder / "queues").mkdir()
        mount("mqueue", folder / "queues")
    elif os.getuid() == 0:
        # An exec gives root no more than what is in the bounding set.
        kept = (CAP_SETGID, CAP_SETUID) if kind == "user+setuid" else ()
        for capability in range(64):
            if capability not in kept:
                ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability)
    (scratch / "start").mkdir()
    (scratch / "start" / "file").write_text("stays")
    (scratch / "cwd").mkdir()
    os.chdir(scratch / "cwd")


def mount(kind: str, path: Path, options: str = "rw") -> None:
    """Mount a file system in this mount namespace."""
    subprocess.run(["mount", "-t", kind, "-o", options, kind, str(path)], check=True)


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])
