from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivers.protocol import ImportRef, StepSpec
from rivers_executor_k8s.pod.names import (
    DIGEST,
    build_annotations,
    build_labels,
    is_kept_after_failure,
    is_ours,
    label_value,
    pod_name,
    run_selector,
)
from rivers_executor_k8s.pod.objects import Metadata, Pod

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

# Anything, and much of what is on the edge of being a name.
keys = st.text(min_size=1, max_size=200) | st.text(string.ascii_letters + string.digits + "-_./[]", min_size=1)


def spec(run_id: str = "r", step: str = "s", attempt_id: str = "a") -> StepSpec:
    return StepSpec(run_id=run_id, step=step, attempt_id=attempt_id, function=ImportRef(module="m", qualname="f"))


class TestPodName:
    @given(keys, keys, st.integers(0, 5))
    def test_valid(self, step: str, attempt_id: str, nonce: int) -> None:
        """Every step and attempt has a pod name that is a DNS label."""
        name = pod_name(step, attempt_id, nonce)

        assert DNS_LABEL.fullmatch(name)
        assert name.startswith("rivers-")
        assert "--" not in name

    @pytest.mark.parametrize(
        ("step", "start"),
        [
            ("orders", "rivers-orders-"),
            ("Raw_Orders", "rivers-raw-orders-"),
            ("shop/orders[2024-01]", "rivers-shop-orders-2024-01-"),
            ("データ", "rivers-"),
            ("-", "rivers-"),
            ("a" * 38 + "-bcd", f"rivers-{'a' * 38}-"),
        ],
    )
    def test_readable(self, step: str, start: str) -> None:
        """As much of the step as fits is legible in its pod's name, before 16 characters of a digest."""
        name = pod_name(step, "x")

        assert name.startswith(start)
        assert 16 == len(name.removeprefix(start))

    def test_longest(self) -> None:
        """A long step uses all of the 63 characters."""
        assert 63 == len(pod_name("a" * 500, "x"))

    def test_same_again(self) -> None:
        """An attempt has one name, in every process: a create that is repeated meets its own pod."""
        assert "rivers-orders-kqbxzesiqrdtq6nk" == pod_name("orders", "r1-orders-1")

    @given(st.lists(st.tuples(keys, keys, st.integers(0, 3)), unique=True, max_size=20))
    def test_distinct(self, attempts: list[tuple[str, str, int]]) -> None:
        """Other attempts, and other nonces of one, have other names."""
        assert len(attempts) == len({pod_name(*attempt) for attempt in attempts})


class TestLabels:
    @given(keys, keys, keys)
    def test_valid(self, run_id: str, step: str, attempt_id: str) -> None:
        """Every run, step and attempt has labels that are valid, keys and values."""
        for key, value in build_labels(spec(run_id, step, attempt_id)).items():
            assert LABEL_KEY.fullmatch(key)
            assert LABEL_VALUE.fullmatch(value) and len(value) <= 63

    @pytest.mark.parametrize("text", ["orders", "Raw_orders.v2", "a" * 63, "4f1c-8a"])
    def test_as_it_is(self, text: str) -> None:
        """A legal label value stays as it is, so that people can select by it."""
        assert text == label_value(text)

    @pytest.mark.parametrize("text", ["shop/orders", "a" * 64, "-a", "a.", "", "日本", "a\n"])
    def test_shortened(self, text: str) -> None:
        """An illegal label value is replaced by a legal one."""
        assert text != label_value(text)
        assert LABEL_VALUE.fullmatch(label_value(text))

    @given(st.sets(keys, max_size=20))
    def test_distinct(self, texts: set[str]) -> None:
        """Different texts have different values: nothing of another run is ever selected."""
        assert len(texts) == len({label_value(text) for text in texts})

    def test_found_by(self) -> None:
        """A person finds run, step, attempt and id by the labels."""
        labels = build_labels(spec("r1", "shop/orders", "r1-7"))

        assert {
            "rivers.io/run": "r1",
            "rivers.io/attempt": "1",
            "rivers.io/attempt-id": "r1-7",
        }.items() <= labels.items()
        assert labels["rivers.io/step"].startswith("shop-orders-")

    @given(keys)
    def test_selector(self, run_id: str) -> None:
        """A run's selector selects the run's pods."""
        wanted = dict(term.split("=") for term in run_selector(run_id).split(","))

        assert wanted.items() <= build_labels(spec(run_id)).items()

    def test_worker(self) -> None:
        """A worker is not labelled as a controller, which the NetworkPolicy lets through to workers."""
        assert "worker" == build_labels(spec())["rivers.io/role"]

    @pytest.mark.parametrize("keep", [True, False])
    def test_keeps_failed(self, keep: bool) -> None:
        """Any controller can read from a pod that it has to stay after a failure."""
        assert keep == is_kept_after_failure(Pod(metadata=Metadata(labels=build_labels(spec(), keep_failed=keep))))


class TestAnnotations:
    @given(keys, keys, keys)
    def test_in_full(self, run_id: str, step: str, attempt_id: str) -> None:
        """Annotations hold what labels may have shortened."""
        annotations = build_annotations(spec(run_id, step, attempt_id), epoch=3)

        assert run_id == annotations["rivers.io/run"]
        assert step == annotations["rivers.io/step"]
        assert attempt_id == annotations["rivers.io/attempt-id"]
        assert "3" == annotations["rivers.io/epoch"]


@pytest.mark.parametrize(
    ("annotations", "expected"), [({DIGEST: "d"}, True), ({DIGEST: "e"}, False), ({}, False), ({"other": "d"}, False)]
)
def test_is_ours(annotations: dict[str, str], expected: bool) -> None:
    """A pod is ours when it was made from the same manifest, and a namesake without a digest is not."""
    manifest = {"metadata": {"annotations": {DIGEST: "d"}}}

    assert expected == is_ours(Pod(metadata=Metadata(annotations=annotations)), manifest)
