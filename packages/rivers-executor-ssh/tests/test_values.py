"""Tests of the values: their checks, and that they compare, repeat themselves and travel."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

import rivers as rs
from rivers.exceptions import ConfigurationError
from rivers_executor_ssh import SshExecutor, SshHost


def test_values() -> None:
    """Equal arguments make equal values, whatever their form; a repr can be pasted back."""
    one = SshExecutor(["a", SshHost("b", slots=2)], env={"A": "1"}, grace=5.0)
    two = SshExecutor(("a", SshHost("b", 2)), env=[("A", "1")], grace=5)

    assert one == two
    assert hash(one) == hash(two)
    assert one == eval(repr(one)) == pickle.loads(pickle.dumps(one)) == dataclasses.replace(one)
    assert "SshExecutor(hosts=['a'])" == repr(SshExecutor(["a"]))
    assert isinstance(one, rs.Executor)


def test_settings_of_hosts() -> None:
    """A host's own settings win over those of the executor."""
    executor = SshExecutor(["a", SshHost("b", slots=1, python="p")], python="q", cwd="/c", max_workers_per_host=3)

    assert (SshHost("a", 3, "q", "/c"), SshHost("b", 1, "p", "/c")) == executor.all_hosts


@pytest.mark.parametrize(
    ("address", "destination"),
    [
        ("node1", ("node1", None)),
        ("me@node-1.lan:2222", ("me@node-1.lan", "2222")),
        ("[fe80::1%eth0]:22", ("fe80::1%eth0", "22")),
        ("me@[::1]", ("me@::1", None)),
    ],
)
def test_addresses(address: str, destination: tuple[str, str | None]) -> None:
    """Users, ports and IPv6 addresses are read."""
    assert destination == SshHost(address).destination


@pytest.mark.parametrize(
    "address",
    ["", "-oProxyCommand=x", "a b", "me@-a", "-me@a", "a:0", "a:65536", "a:b", "a;b", "$(x)", "a\n", "::1", None, 1],
)
def test_bad_addresses(address: object) -> None:
    """What ssh or a shell could take for something else is refused."""
    with pytest.raises(ConfigurationError, match="invalid address="):
        SshExecutor([address])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"hosts": {"a": 1}}, "invalid hosts={'a': 1}: expected a list"),
        ({"hosts": "node"}, "invalid hosts='node': expected a list"),
        ({"hosts": ["a", "a"]}, "'a' stands twice; write SshHost('a', slots=…)"),
        ({"hosts": ["a", SshHost("a", slots=2)]}, "'a' stands twice"),
        ({"python": ""}, "invalid python='': expected a path, or None"),
        ({"cwd": "a\nb"}, r"invalid cwd='a\nb'"),
        (
            {"max_workers_per_host": 0},
            "invalid max_workers_per_host=0: expected a whole number from 1 to 10000 or None",
        ),
        ({"max_workers_per_host": True}, "invalid max_workers_per_host=True"),
        ({"worker_reuse": "always"}, "invalid worker_reuse='always': expected one of 'never', 'run'"),
        ({"sync": True}, "invalid sync=True: expected one of None, 'git', 'rsync'"),
        ({"env": {"A B": "1"}}, "invalid env='A B'"),
        ({"env": {"RIVERS_GRACE": "1"}}, "do not begin with RIVERS_"),
        ({"env": {"A": 1}}, "invalid env['A']=1: expected a str without NUL"),
        ({"env": 3}, "invalid env=3: expected a dict of text"),
        ({"grace": 0}, "invalid grace=0: expected seconds above 0"),
        ({"orphan_ttl": "long"}, "invalid orphan_ttl='long'"),
        ({"connect_timeout": float("nan")}, "invalid connect_timeout=nan"),
        ({"allow_pickle": 1}, "invalid allow_pickle=1: expected True or False"),
        ({"max_steps_per_worker": 0}, "invalid max_steps_per_worker=0"),
    ],
)
def test_bad_arguments(given: dict[str, object], text: str) -> None:
    """An invalid argument is named with its value and what is expected."""
    with pytest.raises(ConfigurationError) as caught:
        SshExecutor(**given)  # type: ignore[arg-type]

    assert text in str(caught.value)


def test_bad_slots() -> None:
    """So are those of a host."""
    with pytest.raises(ConfigurationError, match="invalid slots=0: expected a whole number from 1 to 10000 or None"):
        SshHost("a", slots=0)
