"""The pure parts: the value, arguments and script, answers of Slurm, evidence."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import rivers_executor_slurm.jobs
from rivers.exceptions import ConfigurationError
from rivers.protocol import Compute, ImportRef, StepSpec, classify
from rivers_executor_slurm import SlurmExecutor
from rivers_executor_slurm.jobs import BatchJob, RunJobs
from rivers_executor_slurm.output import parse_output
from rivers_executor_slurm.queue import JobRecord, evidence_of, explain, parse_scontrol, parse_squeue
from rivers_executor_slurm.script import batch_script, job_options, sbatch_arguments
from rivers_worker.announcement import Announcement
from rivers_worker.client import Identity
from rivers_worker.remote import WorkerOrder

LINE = Announcement(4711, Identity.of_worker("a").certificate).line
SILENT = parse_output(b"")


def spec(**given: Any) -> StepSpec:
    return StepSpec(run_id="r", step="s", attempt_id="a", function=ImportRef(module="m", qualname="f"), **given)


def arguments(executor: SlurmExecutor, **given: Any) -> dict[str, str]:
    return dict(word.lstrip("-").split("=", 1) for word in job_options(executor, spec(**given)).arguments)


class TestValue:
    def test_one_form(self) -> None:
        """What means the same is equal, and the repr makes it again."""
        first = SlurmExecutor("p", time="1:30:00", gpus=2, env={"B": "1", "A": "2"}, extra="-C avx --exclusive")
        second = SlurmExecutor("p", time=timedelta(hours=1.5), gpus="2", env=[("A", "2"), ("B", "1")])

        assert second != first
        assert first == eval(repr(first), {"SlurmExecutor": SlurmExecutor})
        assert first == pickle.loads(pickle.dumps(first))
        assert hash(first) == hash(eval(repr(first), {"SlurmExecutor": SlurmExecutor}))
        assert (5400.0, "2", (("A", "2"), ("B", "1"))) == (second.time, second.gpus, second.env)
        assert ("-C", "avx", "--exclusive") == first.extra

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("time", value) for value in ("90", "1:2", "", "0:00", 0, -1, True, "1h")),
            *(("cpus", value) for value in (0, 1.5, "2", True, None)),
            *(("memory", value) for value in ("1X", 0, 100, -1, True, 1.5)),
            *(("gpus", value) for value in (0, "a100", "a100:0", True, 1.5)),
            *(("partition", value) for value in ("a b", "", 1)),
            *(("max_jobs", value) for value in (0, "1", True)),
            *(("worker_reuse", value) for value in ("always", True, None)),
            *(("extra", value) for value in (["--output=x"], "-o x", ["--array=1-3"], [1], ["a\nb"])),
            *(("env", value) for value in ({"a b": "1"}, {"A": True}, [("A",)], {"A": "\x00"}, 3)),
            *(("grace", value) for value in (0, "1", None, 1e9)),
            ("array", 1),
            ("container", 3),
            ("extra", 3),
            ("folder", " "),
            ("setup", ["a\x00"]),
        ],
    )
    def test_invalid(self, name: str, value: Any) -> None:
        """A wrong argument is refused, by its name."""
        with pytest.raises(ConfigurationError, match=f"^invalid {name}[=\\[]"):
            SlurmExecutor(**{name: value})

    def test_no_backend(self) -> None:
        """Importing the value loads neither gRPC nor the backend."""
        program = "import sys, rivers_executor_slurm; print([m for m in ('grpc', 'rivers_worker') if m in sys.modules])"
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

        assert "[]\n" == ended.stdout


class TestOptions:
    def test_executor(self) -> None:
        """The executor's parameters are options of sbatch."""
        executor = SlurmExecutor("p", account="a", qos="q", time="0:90", cpus=3, memory="1.5Gi", gpus="a100:2")

        expected = {"partition": "p", "account": "a", "qos": "q", "time": "90", "cpus-per-task": "3"}
        assert {**expected, "mem": "1536M", "gpus": "a100:2"} == arguments(executor)
        assert {"cpus-per-task": "1"} == arguments(SlurmExecutor())

    def test_step(self) -> None:
        """Compute and metadata of a step win."""
        executor = SlurmExecutor("p", cpus=3, memory="1Gi")
        given = arguments(
            executor,
            compute=Compute(cpu="1500m", memory="1000001", gpu="1"),
            metadata={"rivers/slurm/partition": "q", "rivers/slurm/extra": "--constraint=avx", "team": "x"},
        )

        expected = {"partition": "q", "cpus-per-task": "2", "mem": "1M", "gpus": "1", "constraint": "avx"}
        assert expected == given

    @pytest.mark.parametrize(
        ("settings", "timeout", "minutes", "max_age"),
        [
            ({}, None, None, None),
            ({"time": 61}, None, "2", None),
            ({"grace": 30}, 30.0, "2", None),
            ({"grace": 30}, 31.0, "3", None),
            ({"grace": 30, "time": 600}, 31.0, "10", None),
            ({"grace": 30, "time": 60}, 3600.0, "62", None),
            ({"worker_reuse": "run"}, None, None, None),
            ({"worker_reuse": "run", "time": 600}, None, "10", 540.0),
            ({"worker_reuse": "run", "time": 600, "grace": 30}, 30.0, "10", 480.0),
            ({"worker_reuse": "run", "grace": 30}, 30.0, "62", 3600.0),
        ],
    )
    def test_time(
        self, settings: dict[str, Any], timeout: float | None, minutes: str | None, max_age: float | None
    ) -> None:
        """The time limit is never below the timeout, and a pilot takes no step that may not fit."""
        options = job_options(SlurmExecutor(**settings), spec(timeout=timeout))

        assert minutes == arguments(SlurmExecutor(**settings), timeout=timeout).get("time")
        assert max_age == options.max_age

    def test_name_and_output(self) -> None:
        """A job's name shows the step; a % in the folder is no pattern of Slurm's."""
        executor = SlurmExecutor(cwd="/work")
        options = job_options(executor, spec())
        outputs = [Path("/a%b/t-0.out"), Path("/a%b/t-1.out")]

        name, single = sbatch_arguments(executor, options, "g/ä b[k]", outputs[:1], "t")
        _, array = sbatch_arguments(executor, options, "s", outputs, "t")

        assert "rivers-g-b-k--t" == name
        assert {"--output=/a%%b/t-0.out", "--chdir=/work", "--no-requeue"} <= set(single)
        assert {"--output=/a%%b/t-%a.out", "--array=0-1"} <= set(array)


class TestScript:
    def run(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        node = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "SLURM_SUBMIT_HOST": "127.0.0.1"}
        env = {"PATH": os.environ["PATH"], **node, **env}
        return subprocess.run(["sh"], input=script, env=env, text=True, capture_output=True, check=False)

    @pytest.mark.parametrize(("task", "job", "attempt"), [(None, "7", "a-0"), ("1", "5_1", "a'1")])
    def test_environment(self, tmp_path: Path, task: str | None, job: str, attempt: str) -> None:
        """Each task has its own environment; the values are data, whatever they hold."""
        worker = tmp_path / "rivers_worker"
        worker.mkdir()
        (worker / "__main__.py").write_text(
            "import os, sys\ndef run():\n    print(sys.argv)\n"
            "    for item in os.environ.items():\n        print('='.join(item))\n    sys.exit(3)\n"
        )
        python = tmp_path / "python $x"
        python.symlink_to(sys.executable)
        env = {"MARK": "$(id) `id` '\"", "RIVERS_RUN_ID": "no", "PYTHONPATH": str(tmp_path)}
        executor = SlurmExecutor(python=python, env=env, setup="X=1\nexport X")
        environments = [{"RIVERS_RUN_ID": "r", "RIVERS_ATTEMPT_ID": name} for name in ("a-0", "a'1")]
        outputs = [tmp_path / "0", tmp_path / "1"]
        script = batch_script(executor, job_options(executor, spec()), outputs, environments)

        array = {} if task is None else {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": task}
        ended = self.run(script, **array)
        found = dict(line.split("=", 1) for line in ended.stdout.splitlines() if "=" in line)

        assert (3, "") == (ended.returncode, ended.stderr)
        assert f"rivers-job {job} n1 127.0.0.1:0" == ended.stdout.splitlines()[0]
        assert "['rivers-worker', 'serve']" in ended.stdout
        assert "rivers-end 3" == ended.stdout.splitlines()[-1]
        assert ("$(id) `id` '\"", "r", attempt, f"job {job}", "1") == (
            found["MARK"],
            found["RIVERS_RUN_ID"],
            found["RIVERS_ATTEMPT_ID"],
            found["RIVERS_WORKER"],
            found["X"],
        )
        assert "127.0.0.1:0" == found["RIVERS_LISTEN"]

    def test_orphan(self, tmp_path: Path) -> None:
        """A worker that has lost its controller removes its output, and the folder once that is empty."""
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\nexit 13\n")
        python.chmod(0o755)
        executor = SlurmExecutor(python=python)
        folder = tmp_path / "run"
        folder.mkdir()
        outputs = [folder / "0", folder / "1"]
        for path in outputs:
            path.touch()
        script = batch_script(executor, job_options(executor, spec()), outputs, [{"A": "0"}, {"A": "1"}])

        self.run(script, SLURM_ARRAY_TASK_ID="0")
        assert [outputs[1]] == list(folder.iterdir())
        self.run(script, SLURM_ARRAY_TASK_ID="1")
        assert not folder.exists()


class TestAnswers:
    def test_squeue(self) -> None:
        """Tasks of arrays have ids of their own; a reason may have any character."""
        found = parse_squeue("4_1|PENDING|Resources\n5|RUNNING|None\n6|PENDING|a|b, c\nnonsense\n")

        assert ["4_1", "5", "6"] == list(found)
        assert ("PENDING", "a|b, c", False) == (found["6"].state, found["6"].reason, found["6"].is_over)

    def test_scontrol(self) -> None:
        """State, reason, node and both halves of the exit code are read."""
        text = (
            "JobId=1 JobName=x JobState=FAILED Reason=JobLaunchFailure Dependency=(null) ExitCode=0:9 BatchHost=n1 X=y"
        )

        assert JobRecord(state="FAILED", reason="JobLaunchFailure", node="n1", signal=9) == parse_scontrol(text)
        assert parse_scontrol("") is None

    @pytest.mark.parametrize(
        ("word", "is_fatal", "text"),
        [
            ("Resources", False, "in use"),
            ("Priority", False, "higher priority"),
            ("PartitionTimeLimit", True, "above that of the partition"),
            ("QOSMaxJobsPerUserLimit", False, "number of jobs at once"),
            ("AssocMaxJobsLimit", False, "number of jobs at once"),
            ("QOSMaxWallDurationPerJobLimit", True, "time limit"),
            ("AssocMaxCpuPerJobLimit", True, "more than its account or QOS"),
            ("QOSMaxGRESPerNode", True, "more than its account or QOS"),
            ("QOSMaxGRESPerUser", False, "have reached a limit"),
            ("AssocGrpCPUMinutesLimit", False, "its jobs share"),
            ("QOSGrpNodeLimit", False, "its jobs share"),
            ("QOSMinGRES", True, "less than its QOS"),
            ("ReqNodeNotAvail, UnavailableNodes:n[1-3]", False, "down, drained or reserved"),
            ("BadConstraints", True, "constraints"),
            ("InvalidAccount", True, "account"),
            ("JobHeldAdmin", False, "holds it"),
            ("SomethingNew", False, "Slurm's reason is SomethingNew"),
        ],
    )
    def test_reasons(self, word: str, is_fatal: bool, text: str) -> None:
        """Reasons are explained; those that no waiting mends are fatal, and an unknown one is not."""
        found = explain(word)

        assert is_fatal is found.is_fatal
        assert text in found.text
        assert word in found.text
        assert word.partition(",")[0] == found.word


class TestOutput:
    def test_announcement(self) -> None:
        """The line of the script and that of the worker make the address."""
        found = parse_output(f"Loading module\nrivers-job 5_1 n1 [fd00::1]:0\n{LINE}\nrivers-end 0\n".encode())

        assert ("5_1", "n1", "[fd00::1]:4711", 0) == (found.job, found.node, found.target, found.code)
        assert "Loading module" == found.tail

    def test_not_yet(self) -> None:
        """Nothing is read from a line that has not ended."""
        found = parse_output(f"rivers-job 5 n1 10.0.0.1:0\n{LINE}".encode())

        assert (None, None, None) == (found.announcement, found.target, found.code)

    @pytest.mark.parametrize(
        "line",
        [
            "slurmstepd-n1: error: StepId=1.batch exceeded memory limit (300 > 200), being killed",
            "slurmstepd: error: Detected 1 oom_kill event in StepId=1.batch.",
            "slurmstepd-n1: error: Detected 2 oom-kill event(s) in StepId=1.batch.",
        ],
    )
    def test_out_of_memory(self, line: str) -> None:
        """The words of slurmstepd prove that a job was ended for its memory; those of a body do not."""
        assert parse_output(f"{line}\n".encode()).is_out_of_memory
        assert not parse_output(f"x {line}\n".encode()).is_out_of_memory


class TestEvidence:
    @pytest.mark.parametrize(
        ("record", "output", "is_warm", "reason", "text"),
        [
            (JobRecord(state="CANCELLED", reason="None", signal=15), b"", False, "infrastructure", "by somebody else"),
            (JobRecord(state="TIMEOUT", reason="TimeLimit"), b"", False, "timeout", "reached its time limit"),
            (JobRecord(state="TIMEOUT", reason="TimeLimit"), b"", True, "infrastructure", "reached its time limit"),
            (
                JobRecord(state="NODE_FAIL", reason="NodeDown"),
                b"",
                False,
                "infrastructure",
                "node failed (NODE_FAIL, NodeDown)",
            ),
            (JobRecord(state="PREEMPTED", reason="None"), b"", False, "infrastructure", "took its place"),
            (
                JobRecord(state="OUT_OF_MEMORY", reason="OutOfMemory", signal=9),
                b"",
                False,
                "out_of_memory",
                "more memory",
            ),
            (JobRecord(state="REQUEUED", reason="None"), b"", False, "infrastructure", "would run again (REQUEUED)"),
            (JobRecord(state="FAILED", reason="NonZeroExitCode", exit_code=13), b"", False, "infrastructure", "failed"),
            (None, b"", False, "infrastructure", "does not know the job any more"),
            (
                JobRecord(state="COMPLETING", reason="None"),
                b"rivers-end 137\n",
                False,
                "infrastructure",
                "script ended",
            ),
            (None, b"rivers-end 137\n", False, "infrastructure", "its script ended"),
        ],
    )
    def test_reason(self, record: JobRecord | None, output: bytes, is_warm: bool, reason: str, text: str) -> None:
        """Every end of a job has its reason, by the rule for all executors, and says what was seen."""
        evidence = evidence_of("7", record, parse_output(output), is_warm=is_warm)

        assert reason == classify(evidence).value
        assert text in str(evidence.detail)
        assert "job 7" == evidence.worker

    def test_memory(self) -> None:
        """Without cgroups the proof is in the output, with peak and limit."""
        line = b"slurmstepd-n1: error: StepId=1.batch exceeded memory limit (300 > 200), being killed\n"
        record = JobRecord(state="FAILED", reason="JobLaunchFailure", signal=9)
        evidence = evidence_of("7", record, parse_output(line), is_warm=True)

        assert "out_of_memory" == classify(evidence).value
        assert (300, 200, 9, None) == (
            evidence.memory_peak,
            evidence.memory_limit,
            evidence.signal,
            evidence.exit_code,
        )

    @pytest.mark.parametrize(
        ("code", "expected"), [(137, (9, None)), (143, (None, 143)), (1, (None, 1)), (0, (None, 0))]
    )
    def test_codes(self, code: int, expected: tuple[int | None, int | None]) -> None:
        """A shell's code for a signal is that signal; 143 is the worker's own."""
        evidence = evidence_of("7", None, parse_output(f"rivers-end {code}\n".encode()), is_warm=False)

        assert expected == (evidence.signal, evidence.exit_code)


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> Path:
    """Put programs in place of Slurm's on the PATH; each notes that it has begun and ended in `calls`."""
    for name, body in programs.items():
        path = folder / name
        path.write_text(
            f"#!/bin/sh\necho '{name} begins' >> {folder}/calls\n{body}\necho '{name} ends' >> {folder}/calls\n"
        )
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "calls"


class TestJobs:
    """What a real Slurm does not do on demand, with stand-ins for its commands."""

    async def submitted(self, folder: Path, count: int, **settings: Any) -> list[BatchJob]:
        executor = SlurmExecutor(**settings)
        run = RunJobs(executor, folder)
        order = WorkerOrder(spec=spec(), environment={}, report=self.reports.append, deadline=time.monotonic() + 60)
        jobs = [BatchJob(order, job_options(executor, order.spec)) for _ in range(count)]
        for job in jobs:
            run.submit(job)
        while not all(job.id or job.output.done() for job in jobs):  # noqa: ASYNC110 - there is no event for an id
            await asyncio.sleep(0.02)
        return jobs

    def setup_method(self) -> None:
        self.reports: list[str] = []

    def test_some_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of many jobs a few are submitted at the same time; as an array, all are by one call."""
        calls = stand_in(tmp_path, monkeypatch, sbatch="cat > /dev/null; sleep 0.1; echo $$")

        jobs = asyncio.run(self.submitted(tmp_path, 30))

        running, most = 0, 0
        for line in calls.read_text().splitlines():
            running += 1 if line.endswith("begins") else -1
            most = max(most, running)
        assert 30 == len({job.id for job in jobs})
        assert 2 <= most <= 8

        calls.unlink()
        jobs = asyncio.run(self.submitted(tmp_path, 30, array=True))
        assert 2 == len(calls.read_text().splitlines())
        assert {f"_{n}" for n in range(30)} == {job.id[job.id.index("_") :] for job in jobs}

    def test_taken_without_an_answer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A job that Slurm has taken without an answer is found by its name, and not submitted twice."""
        monkeypatch.setattr(rivers_executor_slurm.jobs, "AGAIN", 0.1)
        fails = "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1"
        calls = stand_in(tmp_path, monkeypatch, sbatch=f"cat > /dev/null; {fails}", squeue="echo 4711")

        [job] = asyncio.run(self.submitted(tmp_path, 1))

        assert "4711" == job.id
        assert ["sbatch begins", "squeue begins", "squeue ends"] == calls.read_text().splitlines()
        assert ["sbatch: sbatch: error: Socket timed out on send/recv operation"] == self.reports

    def test_submit_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the limit of jobs in the queue is reached, a submission is repeated, and says so."""
        monkeypatch.setattr(rivers_executor_slurm.jobs, "AGAIN", 0.1)
        text = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, …)"
        fails = f"[ $(grep -c begins {tmp_path}/calls) -lt 3 ] && {{ echo '{text}' >&2; exit 1; }}; echo 12"
        calls = stand_in(tmp_path, monkeypatch, sbatch=f"cat > /dev/null; {fails}")

        [job] = asyncio.run(self.submitted(tmp_path, 1))

        assert "12" == job.id
        assert 3 == calls.read_text().count("begins")
        assert "job submit limit" in self.reports[0]

    def test_not_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without sbatch a start is refused."""
        monkeypatch.setenv("PATH", str(tmp_path))

        async def refusal() -> str:
            [job] = await self.submitted(tmp_path, 1)
            return str(job.output.exception())

        assert "sbatch: sbatch cannot be run: No such file or directory" == asyncio.run(refusal())
