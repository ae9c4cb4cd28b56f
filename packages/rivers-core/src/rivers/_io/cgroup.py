"""The cgroups (v1 and v2) that this process is in: what they limit is what there is, whatever the machine has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["cgroup_folders", "text_of_file"]


def cgroup_folders(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """The folders of this process's cgroup for a controller (`cpu`, `memory`) and of those above it, the nearest first.

    In a container the path may be the host's, which is not below its mount: the mount itself is then ours. `root` is
    where `/proc` and `/sys` are.
    """
    for line in text_of_file(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            mounts = ["", "unified"]  # v2
        elif controller in controllers.split(","):
            mounts = list(dict.fromkeys((controller, controllers)))  # v1: cpu, a link to cpu,cpuacct
        else:
            continue
        for mount in mounts:
            top = root / "sys/fs/cgroup" / mount
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                yield folder
                if folder == top:
                    break


def text_of_file(file: Path) -> str:
    """A file of the kernel's; empty where there is none."""
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
