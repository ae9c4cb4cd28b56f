"""Check the wording rules of CONTRIBUTING.md that a program can judge.

    python .ci/language.py              every package
    python .ci/language.py rivers_worker/ _io/     only findings whose path contains one of these

Exit status 1 if a rule is broken. Standard library only: `nox -s lint` runs it without the packages installed.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUESTION = re.compile(r"(What|How|Where|Who|Whose|Why|Whether|Which)\b")
PRIVATE_WORDS = ("told", "tell", "said", "heed", "bury", "hungry")
COMMENTS = (0.02, 0.08)  # own-line comments as a share of a package's lines

FIELD_WORDS = {
    # identifier: the reason why it may contain one of PRIVATE_WORDS
    "tell": "io.IOBase.tell, the standard library's name for the position in a file",
}
SAME_CLASS_NAME: dict[str, str] = {
    # class name: the reason why several classes of the repository have it
    "Compute": "the same resources of a step, in a definition and in the protocol",
    "Output": "the same output of a step, as its body returns it and as the protocol declares it",
    "StepStarted": "the same fact, as a worker reports it and as a run's event",
}

Finding = tuple[Path, int, str]


def sources() -> dict[Path, list[Path]]:
    """Return the source files of each package, generated ones left out."""
    folders = sorted({*ROOT.glob("packages/*/src"), *ROOT.glob("examples/*/src")})
    return {
        folder: [path for path in sorted(folder.rglob("*.py")) if not path.stem.endswith(("_pb2", "_pb2_grpc"))]
        for folder in folders
    }


def docstrings(path: Path, tree: ast.Module) -> Iterator[Finding]:
    """Find docstrings that open with a question word in place of a summary."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            if QUESTION.match(text):
                line = getattr(node, "lineno", 1)
                yield path, line, f"docstring opens with a question word: {text.splitlines()[0][:60]!r}"


def identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield each name that the code uses or defines, with its line."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "name", "arg", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield line, value


def private_words(path: Path, tree: ast.Module) -> Iterator[Finding]:
    """Find identifiers made of words that a reader would have to learn."""
    found = {
        (line, name)
        for line, name in identifiers(tree)
        if name not in FIELD_WORDS and any(word in name.lower() for word in PRIVATE_WORDS)
    }
    yield from ((path, line, f"identifier {name}: use the field's word") for line, name in sorted(found))


def error_texts(path: Path, tree: ast.Module) -> Iterator[Finding]:
    """Find texts that say `is allowed` where the rule is `expected`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " is allowed" in node.value:
            yield path, node.lineno, f"say `expected`, not `is allowed`: {node.value.strip()[:60]!r}"


def own_line_comments(text: str) -> int:
    """Count the lines that hold a comment and nothing else."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip() for token in tokens)


def comment_share(package: Path, texts: dict[Path, str]) -> Iterator[Finding]:
    """Find a package with too few comments that say why, or too many."""
    lines = sum(text.count("\n") for text in texts.values())
    if not package.is_relative_to(ROOT / "packages") or not lines:
        return
    comments = sum(map(own_line_comments, texts.values()))
    low, high = COMMENTS
    if not low <= comments / lines <= high:
        expected = f"expected {low:.0%} to {high:.0%}"
        yield package, 0, f"{comments} own-line comments in {lines} lines are {comments / lines:.1%}: {expected}"


def class_names(trees: dict[Path, ast.Module]) -> Iterator[Finding]:
    """Find classes that share a name without being the same thing."""
    places: dict[str, list[tuple[Path, int]]] = defaultdict(list)
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append((path, node.lineno))
    for name, found in places.items():
        if len(found) > 1 and name not in SAME_CLASS_NAME:
            others = ", ".join(str(path.relative_to(ROOT)) for path, _ in found[1:])
            yield *found[0], f"class {name} is also in {others}"
    for name in SAME_CLASS_NAME.keys() - {name for name, found in places.items() if len(found) > 1}:
        yield Path(__file__), 0, f"SAME_CLASS_NAME lists {name}, which is unique: remove it"


def main(wanted: list[str]) -> int:
    """Print each broken rule as `path:line: text` and return the exit status."""
    findings: list[Finding] = []
    trees: dict[Path, ast.Module] = {}
    for package, paths in sources().items():
        texts = {path: path.read_text(encoding="utf-8") for path in paths}
        findings += comment_share(package, texts)
        for path, text in texts.items():
            trees[path] = tree = ast.parse(text)
            for rule in (docstrings, private_words, error_texts):
                findings += rule(path, tree)
    findings += class_names(trees)
    shown = [f for f in findings if not wanted or any(word in str(f[0]) for word in wanted)]
    for path, line, text in shown:
        print(f"{path.relative_to(ROOT)}:{line}: {text}")
    print(f"{len(shown)} broken rules in {len(trees)} files" if shown else f"language: {len(trees)} files follow it")
    return bool(shown)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
