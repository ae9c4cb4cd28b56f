"""Memory cgroups of both versions: counters, peak and limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from rivers_process.cgroup import MemoryCgroup, MemoryUse

V1 = "sys/fs/cgroup/memory"
V2 = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/a\n0::/\n",
                f"{V1}/a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
                f"{V1}/a/memory.limit_in_bytes": "1024\n",
            },
            (3, None, 1024),
            id="v1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/kube/x\n4:memory:/kube/x\n0::/kube/x\n",
                f"{V1}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
                f"{V1}/memory.max_usage_in_bytes": "7\n",
                f"{V1}/memory.limit_in_bytes": "9223372036854771712\n",
            },
            (1, 7, None),
            id="v1 in a container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/b\n",
                f"{V2}/b/memory.events": "low 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n",
                f"{V2}/b/memory.max": "2048\n",
            },
            (1, None, 2048),
            id="v2",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/\n",
                f"{V2}/memory.events": "low 0\nmax 12\noom 2\noom_kill 3\noom_group_kill 0\n",
                f"{V2}/memory.peak": "1000\n",
                f"{V2}/memory.max": "2000\n",
            },
            (3, 1000, 2000),
            id="v2 at the root of a container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/of/the/host\n",
                f"{V2}/memory.events": "oom_kill 5\n",
                f"{V2}/memory.max": "max\n",
            },
            (5, None, None),
            id="v2 with the path of the host",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/user/me\n",
                f"{V2}/memory.events": "oom_kill 99\n",
                f"{V2}/user/me/memory.events": "oom_kill 0\n",
                f"{V2}/user/me/memory.max": "max\n",
            },
            (0, None, None),
            id="v2 outside a container",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/memory.max": "500\n", f"{V2}/a/b/memory.max": "900\n"},
            (None, None, 500),
            id="v2 with a lower limit above",
        ),
        pytest.param({"proc/self/cgroup": "1:cpu:/\n"}, (None, None, None), id="no memory controller"),
        pytest.param({}, (None, None, None), id="no cgroups"),
    ],
)
def test_what_a_memory_cgroup_reports(
    tmp_path: Path, files: dict[str, str], expected: tuple[int | None, int | None, int | None]
) -> None:
    """OOM kills and the peak come from the nearest cgroup that has them, the limit is the lowest; else None."""
    cgroup = memory_cgroup(tmp_path, files)

    assert expected == (cgroup.oom_kills(), cgroup.peak(), cgroup.limit())


def test_use_of_limited_cgroups(tmp_path: Path) -> None:
    """Every cgroup with a limit reports what is used, and what of it the kernel can drop."""
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        f"{V2}/a/memory.max": "500\n",
        f"{V2}/a/memory.current": "300\n",
        f"{V2}/a/memory.stat": "anon 1\ninactive_file 100\n",
        f"{V2}/a/b/memory.max": "max\n",
        f"{V2}/a/b/memory.current": "1\n",
    }

    assert [MemoryUse(500, 300, 100)] == list(memory_cgroup(tmp_path, files).limited())


def memory_cgroup(root: Path, files: dict[str, str]) -> MemoryCgroup:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return MemoryCgroup(root)
