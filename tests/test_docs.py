"""What the documentation shows is true: its Python runs, its outputs are real, its reference names everything.

A page's blocks run in order in one process of their own, in one namespace, in an empty directory:

    ```python                        runs; what it prints must be in the ```text block right behind it
    ```python title="shop.py"        is written to that file, for later blocks to import and run; any language can be
    ```console                       runs if it begins with `$ python`, `$ rivers` or `$ export`: each command in a
                                     shell, 100 columns wide, with the lines below it as what it prints
    ```text                          the output; `…` stands for what differs from run to run, a line of it for lines

`python tests/test_docs.py docs/start.md` runs one page and says what it prints where that is not what the page shows.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md"])
PUBLIC = (
    "rivers",
    "rivers.events",
    "rivers.exceptions",
    "rivers.io_handlers",
    "rivers.protocol",
    "rivers.spi",
    "rivers.testing",
    "rivers.testing.conformance",
    "rivers_k8s_testing",
    "rivers_process.fork",
    "rivers_process.prctl",
    "rivers_worker.client",
    "rivers_worker.pool",
    "rivers_worker.remote",
)
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)(?P<info>[^\n`]*)$")
TITLE = re.compile(r'title="([^"]+)"')
OF_SLOW_RUNS = re.compile(r"(?m)^(?:  Slowest .*\n(?: {14,}\d[\w. ]* \w+  .*\n)*|\d\d:\d\d:\d\d  \d+ %  .*\n)")
COMMANDS = ("$ python ", "$ rivers ", "$ export ")


@dataclass
class Block:
    """A fenced block: its language, the line its text begins on, its text, the file it is to be written to."""

    language: str
    line: int
    title: str | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


def blocks_of(page: str) -> Iterator[Block]:
    """The fenced blocks of a page in order."""
    block: Block | None = None
    indent = ""
    for number, line in enumerate(page.splitlines(), 1):
        fence = FENCE.match(line)
        if block is not None and fence and not fence["language"] and fence["indent"] == indent:
            yield block
            block = None
        elif block is not None:
            block.lines.append(line.removeprefix(indent))
        elif fence:
            title = TITLE.search(fence["info"])
            indent = fence["indent"]
            block = Block(fence["language"], number + 1, title[1] if title else None)
    assert block is None, f"the block that begins at line {block.line} does not end"


def with_outputs(blocks: list[Block]) -> Iterator[tuple[Block, str]]:
    """Each block that runs, with the output that the page shows for it."""
    for block, following in zip_longest(blocks, blocks[1:]):
        if block.language == "python" and block.title is None:
            yield block, following.text if following is not None and following.language == "text" else ""
        elif block.language == "console" and block.lines[0].startswith(COMMANDS):
            yield block, block.text
        elif block.title is not None:
            yield block, ""


def matches(shown: str, printed: str) -> bool:
    """Whether the shown output is the printed one, `…` standing for anything within a line, or for lines."""
    lines = [
        r"(?:[^\n]*\n)*?" if line.strip() == "…" else "[^\n]*".join(map(re.escape, line.split("…"))) + r"[ \t]*\n"
        for line in shown.rstrip().splitlines()
    ]
    pattern = "".join(lines)
    # On a slow machine runs also list their slowest steps, and print their progress.
    texts = [f"{text.rstrip()}\n" if text.strip() else "" for text in (printed, OF_SLOW_RUNS.sub("", printed))]
    return any(re.fullmatch(pattern, text) for text in texts)


def printed_by(block: Block, page: Path, namespace: dict[str, object]) -> str:
    """Run one block in the current directory and return what it prints."""
    if block.title is not None:
        Path(block.title).parent.mkdir(parents=True, exist_ok=True)
        Path(block.title).write_text(block.text, encoding="utf-8")
        return ""
    if block.language == "console":
        return transcript(block.lines)
    out = io.StringIO()
    # Lines are those of the page, so that a traceback leads there.
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
    with contextlib.redirect_stdout(out):
        exec(code, namespace)
    return out.getvalue()


def transcript(lines: list[str]) -> str:
    """Run the commands among the lines, one shell each, and return them with what they print, as a terminal does."""
    texts, ended, exports = [], 0, ""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RIVERS_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "error",
        "PYTHONUTF8": "1",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    for line in lines:
        if not line.startswith("$ "):
            continue
        if line.startswith("$ export "):
            exports += f"{line.removeprefix('$ ')}; "
        process = subprocess.run(
            ["sh", "-c", f"{exports}(exit {ended}); {line.removeprefix('$ ')}"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        ended = process.returncode
        texts.append(f"{line}\n{process.stdout}")
    return "".join(texts)


def run_page(page: Path) -> int:
    """Run a page's blocks; return how many outputs are not what the page shows, and print those."""
    shown_module = sys.modules["__main__"] = types.ModuleType("__main__")  # what the blocks define is a script's
    sys.path.insert(0, ".")
    wrong = 0
    for block, shown in with_outputs(list(blocks_of(page.read_text(encoding="utf-8")))):
        printed = printed_by(block, page, vars(shown_module))
        if not matches(shown, printed):
            wrong += 1
            print(f"{page}:{block.line} shows\n\n{shown}\nand prints\n\n{printed}")
    return wrong


def pytest_generate_tests(metafunc: object) -> None:
    """One test for each page; without importing pytest, as this module is also run by itself."""
    if "page" in metafunc.fixturenames:  # type: ignore[attr-defined]  # pytest's Metafunc
        ids = [str(page.relative_to(ROOT)) for page in PAGES]
        metafunc.parametrize("page", PAGES, ids=ids)  # type: ignore[attr-defined]


def in_a_process_of_its_own(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", __file__, str(page)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_blocks(page: Path, tmp_path: Path) -> None:
    """Every Python block of a page runs, after those before it, and prints what the page shows."""
    ended = in_a_process_of_its_own(page, tmp_path)

    assert 0 == ended.returncode, ended.stdout


def test_wrong_pages_fail(tmp_path: Path) -> None:
    """A block that prints something else, prints what is not shown, or raises fails its page and names its line."""
    page = tmp_path / "page.md"
    for text in ("print(1)\n```\n```text\n2", "print(1)", "1 / 0", "import warnings\nwarnings.warn('x')"):
        page.write_text(f"\n```python\n{text}\n```\n")

        ended = in_a_process_of_its_own(page, tmp_path)

        assert 1 == ended.returncode
        assert "page.md" in ended.stdout


def test_console_blocks_run(tmp_path: Path) -> None:
    """A file that a page shows is written, and what running it prints is compared."""
    page = tmp_path / "page.md"
    page.write_text('```python title="a.py"\nprint(1)\n```\n```console\n$ python a.py\n2\n```\n')

    assert "and prints\n\n$ python a.py\n1\n" in in_a_process_of_its_own(page, tmp_path).stdout


def test_console_blocks_are_transcripts(tmp_path: Path) -> None:
    """Each command of a block runs, knows the exports and the exit code before it, and long output can be cut."""
    page = tmp_path / "page.md"
    shown = (
        "$ export A=1\n$ python -c 'import os; print(os.environ[\"A\"]); exit(3)'\n1\n$ echo $?\n3\n$ seq 9\n1\n…\n9\n"
    )
    page.write_text(f"```console\n{shown}```\n")

    assert 0 == in_a_process_of_its_own(page, tmp_path).returncode


def test_outputs_are_compared() -> None:
    """A shown output stands for itself and `…` for the rest of a line; nothing else passes."""
    assert matches("run …: ok\nend\n", "run 8f2a: ok\nend\n")
    assert not matches("run …: ok\n", "run 8f\n2a: ok\n")
    assert not matches("", "something\n")
    assert matches("1\n…\n4\n", "1\n2\n3\n4\n")
    assert not matches("1\n…\n4\n", "1\n2\n3\n5\n")


def test_slow_runs() -> None:
    """What a run prints on a slow machine alone needs not be shown: its slowest steps and its progress."""
    slowest = "  Slowest        0.17 s  late  store 0.16 s\n                 0.14 s  report\n"
    assert matches("✓ Run\n\nend\n", f"12:00:00  50 %  1 of 2  1 running\n✓ Run\n{slowest}\nend\n")
    assert matches(slowest, slowest)
    assert not matches("✓ Run\n", "✓ Run\n  Failed      late\n")


def test_blocks_are_found() -> None:
    """Blocks are found with their lines, titles and outputs, also indented ones, and text elsewhere is no output."""
    page = "```text\ndrawing\n```\n\n    ```python\n    print(1)\n    ```\n    ```text\n    1\n    ```\n"
    page += '```python title="a.py"\n```\n'

    found = [(block.line, block.title, block.text, shown) for block, shown in with_outputs(list(blocks_of(page)))]

    assert [(6, None, "print(1)\n", "1\n"), (12, "a.py", "", "")] == found


def test_reference_names_everything() -> None:
    """Every name in the `__all__` of a public module has one entry in the reference, under one of its modules."""
    modules = {name: importlib.import_module(name) for name in PUBLIC}
    entries = re.findall(r"^::: (\S+)\.(\w+)$", (ROOT / "docs/reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    described = {(name, id(getattr(modules[module], name))) for module, name in entries}
    exported = {
        (name, id(value))
        for module in modules.values()
        for name in module.__all__
        if not isinstance(value := getattr(module, name), types.ModuleType)
    }

    assert sorted(name for name, _ in exported) == sorted(name for name, _ in described)
    assert exported == described
    assert len(entries) == len(described)


def test_errors_has_a_heading_for_each() -> None:
    """The error catalogue has one heading for each public name of rivers.exceptions and for each failure reason."""
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    exceptions = importlib.import_module("rivers.exceptions").__all__
    reasons = [reason.value for reason in importlib.import_module("rivers").FailureReason]

    assert sorted([*exceptions, *reasons]) == sorted(re.findall(r"^### (\w+)$", page, re.MULTILINE))


def test_architecture_names_what_is_there() -> None:
    """Every file and test that the architecture page names exists."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:packages|examples|tests|proto|docs)/[\w./-]+)(?:::(\w+))?`", page)
    rooms = re.findall(r"^\| `(_\w+|protocol|testing)/` \| (.*) \|$", page, re.MULTILINE)
    files = [f"{room}/{file}" for room, text in rooms for file in re.findall(r"`(\w+\.py)`", text)]

    assert len(named) > 20
    assert len(files) > 40
    assert [] == [path for path, test in named if not (ROOT / path).exists()]
    assert [] == [test for path, test in named if test and f"def {test}(" not in (ROOT / path).read_text("utf-8")]
    assert [] == [file for file in files if not (ROOT / "packages/rivers-core/src/rivers" / file).is_file()]


def test_architecture_has_each_module() -> None:
    """A package's table of modules on the architecture page names all of its modules, and no other."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for package in (
        "rivers_executor_dask",
        "rivers_executor_parallel",
        "rivers_worker",
        "rivers_executor_slurm",
        "rivers_executor_ssh",
        "rivers_executor_k8s",
    ):
        source = next(ROOT.glob(f"packages/*/src/{package}"))
        section = page.split(f"/src/{package}/`", 1)[1].split("\n## ", 1)[0]
        named = re.findall(r"`([\w/]+)`", "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
        modules = [path.relative_to(source).with_suffix("") for path in source.rglob("[!_]*.py")]

        assert sorted(str(module) for module in modules if module.parts[0] != "v1") == sorted(named)


def test_the_published_roles_are_shown() -> None:
    """The page on permissions shows the Role that preflight prints, and the rule that one for outside adds."""
    page = (ROOT / "docs/kubernetes-permissions.md").read_text(encoding="utf-8")
    shown = [block.text for block in blocks_of(page) if block.language == "yaml"]
    role_yaml = importlib.import_module("rivers_executor_k8s.pod.roles").role_yaml
    inside, outside = (role_yaml("rivers", outside=out).partition("# ")[0] for out in (False, True))

    assert inside == shown[0]
    assert [line for line in outside.splitlines() if line not in inside.splitlines()] == [
        "  name: rivers-controller-outside",
        *shown[1].splitlines()[1:],
    ]


def test_pages_begin_with_their_readers() -> None:
    """A page's first paragraph says who needs it; the landing page says what rivers is."""
    pages = {page: page.read_text(encoding="utf-8").split("\n\n")[1] for page in PAGES if page.name != "README.md"}
    readers = re.compile(r"For (everyone|whoever|users|authors|newcomers)\b")

    assert [ROOT / "docs/index.md"] == [page for page, paragraph in pages.items() if not readers.match(paragraph)]


def test_links_to_elsewhere() -> None:
    """Links that leave the site begin with https:// and name a host; mkdocs checks all others."""
    targets = [target for page in PAGES for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))]
    outside = [target for target in targets if re.match(r"[\w+.-]+:", target)]

    assert len(outside) >= 3
    assert [] == [target for target in outside if not re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/[^\s]*)?", target)]


def test_every_page_is_in_the_navigation() -> None:
    """mkdocs.yml lists each page of docs/ once."""
    listed = re.findall(r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    pages = [str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")]

    assert sorted(pages) == sorted(listed)


if __name__ == "__main__":
    sys.exit(bool(run_page(Path(sys.argv[1]))))
