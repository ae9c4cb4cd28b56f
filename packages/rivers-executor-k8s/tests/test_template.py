from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivers.exceptions import ConfigurationError
from rivers_executor_k8s.pod.template import merge_template, read_template

# ── merging ──

scalars = st.sampled_from([None, True, 0, 1, "a", "b"])
names = st.sampled_from("abc")
named = st.fixed_dictionaries({"name": names}, optional={"value": scalars, "valueFrom": scalars})
numbered = st.fixed_dictionaries(
    {"containerPort": st.integers(1, 2)}, optional={"protocol": st.sampled_from(["UDP", "TCP"])}
)
keyed = st.fixed_dictionaries({}, optional={"key": names, "x": scalars})


def by_name(item: dict[str, Any]) -> object:
    return item["name"]


def by_port(item: dict[str, Any]) -> object:
    return item["containerPort"], item.get("protocol", "TCP")


def some(item: st.SearchStrategy[Any], unique_by: Any = None) -> st.SearchStrategy[list[Any]]:
    return st.lists(item, max_size=3, unique_by=unique_by)


# What the API server takes: names and ports are unique, but for variables, of which the last one of a name counts.
objects: st.SearchStrategy[dict[str, Any]] = st.deferred(
    lambda: st.fixed_dictionaries(
        {},
        optional={
            "x": scalars,
            "runAsUser": scalars,
            "args": some(scalars),
            "inner": objects,
            "env": some(named),
            "volumes": some(named, by_name),
            "containers": some(st.builds(lambda a, b: a | b, objects, named), by_name),
            "ports": some(numbered, by_port),
            "tolerations": some(keyed),
        },
    )
)


class TestMerged:
    @pytest.mark.parametrize(
        ("below", "above", "expected"),
        [
            ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
            ({"a": 1}, {"a": 2}, {"a": 2}),
            ({"a": {"b": 1, "c": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
            ({"a": 1}, {"a": None}, {"a": 1}),
            ({"runAsUser": 1}, {"runAsUser": None}, {}),
            ({"args": [1]}, {"args": [2]}, {"args": [2]}),
            ({"drop": ["ALL"]}, {"drop": []}, {"drop": []}),
            (
                {"containers": [{"name": "a", "x": 1}, {"name": "b"}]},
                {"containers": [{"name": "c"}, {"name": "a", "y": 2}]},
                {"containers": [{"name": "a", "x": 1, "y": 2}, {"name": "b"}, {"name": "c"}]},
            ),
            (
                {"env": [{"name": "A", "value": "1"}]},
                {"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]},
                {"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]},
            ),
            (
                {"volumes": [{"name": "t", "emptyDir": {"sizeLimit": "1Gi"}}]},
                {"volumes": [{"name": "t", "emptyDir": {"medium": "Memory"}}]},
                {"volumes": [{"name": "t", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}}]},
            ),
            (
                {"volumes": [{"name": "t", "emptyDir": {"sizeLimit": "1Gi"}}]},
                {"volumes": [{"name": "t", "persistentVolumeClaim": {"claimName": "p"}}]},
                {"volumes": [{"name": "t", "persistentVolumeClaim": {"claimName": "p"}}]},
            ),
            (
                {"volumeMounts": [{"mountPath": "/tmp", "name": "t"}]},
                {"volumeMounts": [{"mountPath": "/tmp", "name": "big"}, {"mountPath": "/a", "name": "t"}]},
                {"volumeMounts": [{"mountPath": "/tmp", "name": "big"}, {"mountPath": "/a", "name": "t"}]},
            ),
            (
                {"ports": [{"containerPort": 53}]},
                {
                    "ports": [
                        {"containerPort": 53, "protocol": "UDP"},
                        {"containerPort": 53, "protocol": "TCP", "name": "d"},
                    ]
                },
                {
                    "ports": [
                        {"containerPort": 53, "protocol": "TCP", "name": "d"},
                        {"containerPort": 53, "protocol": "UDP"},
                    ]
                },
            ),
            (
                {"imagePullSecrets": [{"name": "a"}], "hostAliases": [{"ip": "1", "hostnames": ["a"]}]},
                {"imagePullSecrets": [{"name": "b"}], "hostAliases": [{"ip": "1", "hostnames": ["b"]}]},
                {"imagePullSecrets": [{"name": "a"}, {"name": "b"}], "hostAliases": [{"ip": "1", "hostnames": ["b"]}]},
            ),
            (
                {"tolerations": [{"key": "a", "tolerationSeconds": 60}, {"key": "b"}]},
                {"tolerations": [{"key": "a", "tolerationSeconds": 9}, {"operator": "Exists"}]},
                {"tolerations": [{"key": "a", "tolerationSeconds": 9}, {"operator": "Exists"}, {"key": "b"}]},
            ),
        ],
    )
    def test_table(self, below: dict[str, Any], above: dict[str, Any], expected: dict[str, Any]) -> None:
        """Objects by field, named lists by name, other lists as a whole, tolerations added, null nearly never."""
        assert expected == merge_template(below, above)

    @given(objects, objects)
    def test_once_is_enough(self, below: dict[str, Any], above: dict[str, Any]) -> None:
        """Merging the same once more changes nothing."""
        once = merge_template(below, above)

        assert once == merge_template(once, above)

    @given(objects, objects)
    def test_nothing_is_changed(self, below: dict[str, Any], above: dict[str, Any]) -> None:
        """Neither of the two is changed."""
        before = copy.deepcopy((below, above))
        merge_template(below, above)

        assert before == (below, above)

    @given(objects)
    def test_neutral(self, below: dict[str, Any]) -> None:
        """Nothing over something is something."""
        assert below == merge_template(below, {})

    @given(objects, objects)
    def test_nothing_is_lost(self, below: dict[str, Any], above: dict[str, Any]) -> None:
        """No container, volume or variable of either side gets lost."""
        result = merge_template(below, above)
        for field in ("containers", "volumes", "env"):
            names = {item["name"] for side in (below, above) for item in side.get(field, ())}

            assert names == {item["name"] for item in result.get(field, ())}


# ── reading ──


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pod.yaml"


def problem(path: Path | str, *, allow_insecure: bool = False) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_template(str(path), allow_insecure=allow_insecure)
    return str(caught.value)


class TestRead:
    def test_yaml(self, file: Path) -> None:
        """A YAML file is a template; comments and an empty document beside it are none."""
        file.write_text("# ours\n---\nspec:\n  nodeSelector: {disk: ssd}\n  restartPolicy: Never\n---\n")

        expected = {"spec": {"nodeSelector": {"disk": "ssd"}, "restartPolicy": "Never"}}
        assert expected == read_template(str(file), allow_insecure=False)

    def test_json(self, file: Path) -> None:
        """JSON is YAML."""
        file.write_text('{"metadata": {"labels": {"a": "b"}}}')

        assert {"metadata": {"labels": {"a": "b"}}} == read_template(str(file), allow_insecure=False)

    def test_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A path that begins with ~ is in the user's home folder; a user who does not exist has none."""
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "pod.yaml").write_text("metadata: {labels: {a: b}}")

        assert {"metadata": {"labels": {"a": "b"}}} == read_template("~/pod.yaml", allow_insecure=False)
        with pytest.raises(ConfigurationError, match=r"pod_template='~nobody-of-that-name/p' cannot be read"):
            read_template("~nobody-of-that-name/p", allow_insecure=False)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", r"holds nothing: expected one object"),
            ("- a\n", r"holds a list: expected one object"),
            ("a: 1\n---\nb: 2\n", r"holds 2 documents: expected one object"),
            ("spec: [", r"is not YAML: (.|\n)*line 1"),
            ("spec: {a: *x}", r"is not YAML: (.|\n)*undefined alias"),
            ("a: !!python/object/apply:os.getcwd []", r"is not YAML: (.|\n)*could not determine a constructor"),
            ("metadata: {annotations: {since: 2024-01-01}}", r"holds what is not JSON: (.|\n)*in quotes"),
            ("a: .nan", r"holds what is not JSON"),
            ("a: &a [*a]", r"holds what is not JSON"),
            ("metadata: {labels: {on: yes}}", r"\.labels\['true'\] \(a bool\): expected a str"),
        ],
    )
    def test_no_template(self, file: Path, text: str, expected: str) -> None:
        """A file that is not one YAML object is refused with its path and fault."""
        file.write_text(text)
        said = problem(file)

        assert str(file) in said
        assert re.search(expected, said)

    @pytest.mark.parametrize(
        ("data", "expected"), [(b"\xff\xfe\xff", "is not YAML"), (b"#" * (1 << 20) + b"#", "more than 1048576 bytes")]
    )
    def test_no_text(self, file: Path, data: bytes, expected: str) -> None:
        """A file that is not text, or too large, is refused."""
        file.write_bytes(data)

        assert expected in problem(file)

    def test_missing(self, tmp_path: Path) -> None:
        """A file that is not there is named; from where a relative path goes, too."""
        assert f"pod_template='{tmp_path}/none.yaml' cannot be read: No such file" in problem(tmp_path / "none.yaml")
        assert f"relative paths start at {Path.cwd()}" in problem("none-of-that-name.yaml")

    def test_checked(self, file: Path) -> None:
        """It is checked as a dict is, and the file is named with the path in it."""
        file.write_text("spec: {hostPID: true}")

        assert problem(file).startswith(f"{file}: invalid pod_template.spec.hostPID=True: expected False")
        assert {"spec": {"hostPID": True}} == read_template(str(file), allow_insecure=True)
