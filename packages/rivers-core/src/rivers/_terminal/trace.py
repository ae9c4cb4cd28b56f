"""Read the text of a traceback: the frames of its exceptions, and which of them are the user's."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Frame", "Trace", "TraceBlock", "read_trace"]

_FRAME = re.compile(r'\s*File "(.*)", line (\d+)(?:, in (.*))?$')
_MEMBER = re.compile(r"\s*(?:\+-)?\+-{8,}")
_BAR = re.compile(r"\s*[|+] ?")
_CAUSES = {
    "The above exception was the direct cause of the following exception:": "caused by",
    "During handling of the above exception, another exception occurred:": "raised while handling",
}
_STDLIB = str(Path(os.__file__).parent) + os.sep
# Workers have other paths than this machine: their libraries are known by the names of the folders.
_LIBRARY = re.compile(r"[\\/](site-packages|dist-packages)[\\/]|[\\/]lib[\\/]python3(\.\d+)?t?[\\/]|^<")


class Frame(NamedTuple):
    """A frame of a traceback; `source` is empty where the file was not to be had."""

    file: str
    line: int
    function: str
    source: str

    @property
    def is_library(self) -> bool:
        """True for files of the standard library and of installed packages."""
        return self.file.startswith(_STDLIB) or _LIBRARY.search(self.file) is not None


@dataclass(slots=True)
class TraceBlock:
    """One exception of a traceback: its frames, outermost first, and the first line of its text.

    `relation` says how it led to the next one, `caused by` or `raised while handling`.
    """

    frames: list[Frame] = field(default_factory=list)
    text: str = ""
    relation: str = ""

    @property
    def own(self) -> list[Frame]:
        """The frames of the user."""
        return [frame for frame in self.frames if not frame.is_library]


@dataclass(slots=True)
class Trace:
    """A traceback: the exception that was raised, what led to it, first cause first, and the members of its group."""

    raised: TraceBlock
    causes: list[TraceBlock]
    members: list[TraceBlock]


def read_trace(text: str) -> Trace:
    """Return the exceptions in the text of a traceback; of other text, one without frames."""
    chain, members = [TraceBlock()], list[TraceBlock]()
    block, is_member = chain[0], False
    previous: Frame | None = None
    for line in text.splitlines():
        if _MEMBER.match(line):
            is_member, block, previous = True, TraceBlock(), None
            members.append(block)
            continue
        # The members of a group stand behind a bar for each level.
        bare = _BAR.sub("", line, count=1) if line.lstrip()[:1] in ("|", "+") else line
        found = _FRAME.match(bare)
        if bare.strip() in _CAUSES and not is_member:
            block.relation = _CAUSES[bare.strip()]
            block = TraceBlock()
            chain.append(block)
        elif found is not None:
            block.frames.append(Frame(found[1], int(found[2]), found[3] or "", ""))
        # Python 3.11 and later underline the source in a further line, which is not taken.
        elif previous is not None and bare.startswith("    "):
            block.frames[-1] = previous._replace(source=bare.strip())
        elif bare.strip() and not bare.startswith(" ") and "Traceback (most recent call last)" not in bare:
            block.text = block.text or bare
        previous = block.frames[-1] if found is not None else None
    return Trace(chain[-1], chain[:-1], [member for member in members if member.text])
