"""A guard that outlives the controller: it kills what the workers have started and removes what they shared.

A worker that is killed with its controller can do neither. A shell can: it waits at the end of a pipe.
"""

from __future__ import annotations

import contextlib
import os
import subprocess

from rivers_executor_parallel.pool_id import VARIABLE
from rivers_process.fork import close_in_children, keep_in_children
from rivers_process.frames import write_whole
from rivers_process.processes import KILL_MARKED_IN_SHELL

__all__ = ["ProcessGuard"]

_SCRIPT = (
    KILL_MARKED_IN_SHELL
    + """
trap '' HUP INT QUIT TERM
named=$1
shift
groups=
while read -r what value; do
    case $what in
    group) groups="$groups $value" ;;
    ended)
        rest=
        for group in $groups; do [ "$group" = "$value" ] || rest="$rest $group"; done
        groups=$rest
        ;;
    folder) set -- "$@" "$value" ;;
    done) exit 0 ;;
    esac
done
for group in $groups; do kill -KILL -- "-$group" 2>/dev/null; done
for pause in 0 0.1 0.2; do  # what is just being started has no environment yet
    sleep "$pause"
    kill_marked "$named"
done
[ $# -gt 0 ] && rm -rf -- "$@"
"""
)


class ProcessGuard:
    """A shell that is given process groups and folders; it acts when this process has ended without `close`.

    What has left its group is found by the name of the pool in its environment. Where there is no `/bin/sh`, the kernel
    alone ends the workers, but not what their bodies have started; where there is no `grep`, what has left its group
    lives on.
    """

    def __init__(self, pool_id: str) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        read, self._pipe = os.pipe2(os.O_CLOEXEC)
        # It waits for the end of this process: a forked child that held the pipe open would keep it waiting.
        close_in_children(self._pipe)
        with contextlib.suppress(OSError):
            self._shell = subprocess.Popen(  # noqa: S603 - a text of ours, and a name of hexadecimal digits
                ["/bin/sh", "-c", _SCRIPT, "rivers-guard", f"{VARIABLE}={pool_id}."],
                stdin=read,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        os.close(read)

    def watch_group(self, group: int) -> None:
        """Have this process group killed."""
        self._send(f"group {group}")

    def forget_group(self, group: int) -> None:
        """Do not kill this group any more: its number may soon be another's."""
        self._send(f"ended {group}")

    def watch_folder(self, folder: str) -> None:
        """Have this folder removed, also where its removal has begun, which renames it."""
        if "\n" not in folder:
            self._send(f"folder {folder}")
            self._send(f"folder {folder}~")

    def close(self) -> None:
        """End the guard; it does nothing."""
        self._send("done")
        keep_in_children(self._pipe)
        os.close(self._pipe)
        if self._shell is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._shell.wait(5)

    def _send(self, line: str) -> None:
        with contextlib.suppress(OSError):  # no shell, or a killed one: the kernel's own ways are left
            write_whole(self._pipe, line.encode() + b"\n")
