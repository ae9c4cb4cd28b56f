from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivers._definitions.compute import ComputeEscalation
from rivers._definitions.retry import LONGEST_DELAY, Backoff, FailureReason, RetryOn, RetryPolicy
from rivers.exceptions import ConfigurationError
from rivers.protocol import failure
from rivers.protocol.failure import Failure

ERROR, TIMEOUT, OOM = FailureReason.ERROR, FailureReason.TIMEOUT, FailureReason.OUT_OF_MEMORY
INFRASTRUCTURE, CANCELLED = FailureReason.INFRASTRUCTURE, FailureReason.CANCELLED

CONNECTION_RESET = Failure(
    reason=ERROR,
    type="ConnectionResetError",
    message="reset",
    mro=("ConnectionResetError", "ConnectionError", "OSError", "Exception", "BaseException", "object"),
)


class Flaky(Exception):
    pass


class Outer:
    class Inner(Flaky):
        pass


FLAKY = Failure(reason=ERROR, type=f"{__name__}.Flaky", message="", mro=(f"{__name__}.Flaky", "Exception"))
INNER = Failure(
    reason=ERROR, type=f"{__name__}.Outer.Inner", message="", mro=(f"{__name__}.Outer.Inner", f"{__name__}.Flaky")
)

seconds = st.floats(0, LONGEST_DELAY) | st.integers(0, 1000)
above_zero = st.floats(1e-9, LONGEST_DELAY) | st.integers(1, 1000)
settings: dict[str, Any] = {"jitter": st.floats(0, 1), "max_delay": st.none() | above_zero}
backoffs = st.one_of(
    st.builds(Backoff.constant, seconds, **settings),
    st.builds(Backoff.linear, seconds, initial=seconds, **settings),
    st.builds(Backoff.exponential, above_zero, factor=st.floats(1, 1000), **settings),
    st.builds(Backoff.fixed, st.lists(seconds, min_size=1, max_size=5), jitter=settings["jitter"]),
)


def failed(reason: FailureReason, *, transient: bool = True) -> Failure:
    return Failure(reason=reason, type="X", message="", transient=transient)


class TestBackoff:
    @pytest.mark.parametrize(
        ("backoff", "expected"),
        [
            (Backoff.constant(5), [5, 5, 5, 5]),
            (Backoff.constant(0), [0, 0, 0, 0]),
            (Backoff.constant(5, max_delay=3), [3, 3, 3, 3]),
            (Backoff.linear(2), [2, 4, 6, 8]),
            (Backoff.linear(2, initial=10, max_delay=15), [12, 14, 15, 15]),
            (Backoff.exponential(1), [1, 2, 4, 8]),
            (Backoff.exponential(0.5, factor=3, max_delay=10), [0.5, 1.5, 4.5, 10]),
            (Backoff.fixed([1, 5, 30]), [1, 5, 30, 30]),
            (Backoff.fixed(iter([7])), [7, 7, 7, 7]),
        ],
    )
    def test_schedules(self, backoff: Backoff, expected: list[float]) -> None:
        """Each shape waits as its formula says, up to its ceiling."""
        assert expected == [backoff.delay(retry, 0.5) for retry in (1, 2, 3, 4)]

    def test_durations(self) -> None:
        """Waits may be timedeltas, and are seconds from then on."""
        minute = timedelta(minutes=1)

        assert Backoff.constant(60.0) == Backoff.constant(minute)
        assert Backoff.linear(60.0, initial=60.0) == Backoff.linear(minute, initial=minute)
        assert Backoff.exponential(60.0, max_delay=60.0) == Backoff.exponential(minute, max_delay=minute)
        assert Backoff.fixed([60.0, 1]) == Backoff.fixed([minute, 1])

    def test_jitter_goes_down_only(self) -> None:
        """Jitter takes up to its fraction off the wait, after the ceiling."""
        backoff = Backoff.exponential(10, jitter=0.3, max_delay=20)

        assert [10, 7] == [backoff.delay(1, random) for random in (0.0, 1.0)]
        assert [20, 17, 14] == [backoff.delay(9, random) for random in (0.0, 0.5, 1.0)]

    @pytest.mark.parametrize("retry", [1_000, 10**6, 10**400])
    @pytest.mark.parametrize("backoff", [Backoff.exponential(1, factor=1000), Backoff.linear(1000)])
    def test_huge_retry(self, backoff: Backoff, retry: int) -> None:
        """However often it is retried, nothing overflows and no wait is beyond what a clock can take."""
        assert 0 <= backoff.delay(retry, 0.0) <= LONGEST_DELAY

    @given(backoffs, st.integers(1, 1000), st.floats(0, 1))
    def test_bounds(self, backoff: Backoff, retry: int, random: float) -> None:
        """A wait is a number from 0 to the ceiling, and never more than the one without jitter."""
        wait = backoff.delay(retry, random)
        ceiling = LONGEST_DELAY if backoff.max_delay is None else backoff.max_delay

        assert isinstance(wait, float)
        assert 0 <= wait <= backoff.delay(retry, 0.0) <= ceiling

    @given(backoffs)
    def test_is_a_value(self, backoff: Backoff) -> None:
        """The repr pasted back makes an equal value with an equal hash, and so does a pickle."""
        again = eval(repr(backoff))

        assert backoff == again == pickle.loads(pickle.dumps(backoff))
        assert hash(backoff) == hash(again)

    def test_repr(self) -> None:
        """The repr is the call a person would write."""
        assert "Backoff.constant(5)" == repr(Backoff.constant(5))
        assert "Backoff.linear(1, jitter=0.5, initial=2)" == repr(Backoff.linear(1, initial=2, jitter=0.5))
        assert "Backoff.fixed([1, 5])" == repr(Backoff.fixed((1, 5)))

    def test_shapes_differ(self) -> None:
        """Different shapes with the same numbers are different values."""
        assert Backoff.exponential(1) != Backoff.linear(1)

    @pytest.mark.parametrize(
        ("parameter", "make"),
        [
            ("delay", Backoff.constant),
            ("step", Backoff.linear),
            ("initial", lambda bad: Backoff.linear(1, initial=bad)),
            ("initial", Backoff.exponential),
            ("factor", lambda bad: Backoff.exponential(1, factor=bad)),
            ("schedule[1]", lambda bad: Backoff.fixed([1, bad])),
            ("jitter", lambda bad: Backoff.constant(1, jitter=bad)),
            ("max_delay", lambda bad: Backoff.constant(1, max_delay=bad)),
        ],
    )
    @pytest.mark.parametrize("bad", [-1, True, "1", float("nan"), float("inf"), 1e300])
    def test_refuses(self, parameter: str, make: Any, bad: object) -> None:
        """Negative, infinite and endless waits, bools and texts are refused under the parameter's name."""
        with pytest.raises(ConfigurationError) as caught:
            make(bad)

        assert caught.value.message.startswith(f"invalid {parameter}=")

    @pytest.mark.parametrize("schedule", [[], (), 5, "15", None])
    def test_no_schedule(self, schedule: Any) -> None:
        """A schedule lists at least one wait."""
        with pytest.raises(ConfigurationError, match=r"^invalid schedule=.*: expected a list of at least one wait"):
            Backoff.fixed(schedule)

    def test_exponential_from_zero(self) -> None:
        """An exponential schedule that would stay at 0 for ever is refused."""
        with pytest.raises(ConfigurationError, match=r"^invalid initial=0"):
            Backoff.exponential(0)


class TestRetries:
    @pytest.mark.parametrize(
        ("retry_on", "retried"),
        [
            (None, {ERROR, TIMEOUT, OOM, INFRASTRUCTURE}),
            (RetryOn.ALL, {ERROR, TIMEOUT, OOM, INFRASTRUCTURE}),
            (RetryOn.TRANSIENT, {TIMEOUT, OOM, INFRASTRUCTURE}),
            ([TIMEOUT, ERROR], {TIMEOUT, ERROR}),
            (OOM, {OOM}),
            ([ValueError], set()),
        ],
    )
    def test_reasons(self, retry_on: Any, retried: set[FailureReason]) -> None:
        """A preset or a list decides by reason; a cancellation is never retried."""
        policy = RetryPolicy(retry_on=retry_on)

        assert retried == {reason for reason in FailureReason if policy.retries(failed(reason), 1)}

    @pytest.mark.parametrize("reason", FailureReason)
    @pytest.mark.parametrize("retry_on", [None, RetryOn.TRANSIENT, [ERROR, TIMEOUT, OOM, INFRASTRUCTURE, Exception]])
    def test_not_transient(self, reason: FailureReason, retry_on: Any) -> None:
        """A failure that another attempt cannot help is not retried under any policy."""
        assert not RetryPolicy(retry_on=retry_on).retries(failed(reason, transient=False), 1)

    @pytest.mark.parametrize(
        ("retry_on", "failure", "expected"),
        [
            ([ConnectionResetError], CONNECTION_RESET, True),
            ([OSError], CONNECTION_RESET, True),
            (OSError, CONNECTION_RESET, True),
            ([ValueError, ConnectionError], CONNECTION_RESET, True),
            ([ValueError], CONNECTION_RESET, False),
            ([TIMEOUT, ValueError], CONNECTION_RESET, False),
            ([Flaky], FLAKY, True),
            ([Flaky], INNER, True),
            ([Outer.Inner], INNER, True),
            ([Outer.Inner], FLAKY, False),
            ([Flaky], Failure(reason=ERROR, type="other.Flaky", message="", mro=("other.Flaky",)), False),
            ([Flaky], Failure(reason=ERROR, type=f"{__name__}.Flaky", message=""), True),
        ],
    )
    def test_exception_types(self, retry_on: Any, failure: Failure, expected: bool) -> None:
        """Exception types match by qualified name, subclasses included, and a namesake of another module does not."""
        assert expected is RetryPolicy(retry_on=retry_on).retries(failure, 1)

    def test_nothing_is_imported(self) -> None:
        """A failure that names a module nobody has is judged all the same."""
        strange = Failure(reason=ERROR, type="no.such.Module", message="", mro=("no.such.Module", "LookupError"))

        assert RetryPolicy(retry_on=[LookupError]).retries(strange, 1)

    @pytest.mark.parametrize(("max_retries", "expected"), [(0, []), (1, [1]), (3, [1, 2, 3]), (999, [1, 2, 3, 4])])
    def test_budget(self, max_retries: int, expected: list[int]) -> None:
        """There are as many retries as the policy allows and no more."""
        policy = RetryPolicy(max_retries)

        assert expected == [retry for retry in (1, 2, 3, 4) if policy.retries(failed(ERROR), retry)]


class TestRetryPolicy:
    def test_default(self) -> None:
        """A bare policy retries once, at once, after anything but a cancellation."""
        assert "RetryPolicy(max_retries=1)" == repr(RetryPolicy())
        assert RetryPolicy().backoff is None

    def test_is_a_value(self) -> None:
        """The repr pasted back makes an equal value with an equal hash, whatever kind of list it was made from."""
        policy = RetryPolicy(
            3,
            backoff=Backoff.exponential(1, max_delay=60),
            retry_on=[OSError, TIMEOUT],
            escalate=ComputeEscalation(max_memory="4Gi"),
        )
        again = eval(repr(policy))

        assert (
            "RetryPolicy(max_retries=3, backoff=Backoff.exponential(1, max_delay=60), "
            "retry_on=[OSError, FailureReason.TIMEOUT], escalate=ComputeEscalation(max_memory='4Gi'))"
        ) == repr(policy)
        assert policy == again == pickle.loads(pickle.dumps(policy))
        assert hash(policy) == hash(again)
        assert "RetryPolicy(max_retries=2, retry_on=RetryOn.TRANSIENT)" == repr(
            RetryPolicy(2, retry_on=RetryOn.TRANSIENT)
        )

    @pytest.mark.parametrize(
        ("parameter", "given"),
        [
            ("max_retries", {"max_retries": -1}),
            ("max_retries", {"max_retries": 1000}),
            ("max_retries", {"max_retries": True}),
            ("max_retries", {"max_retries": 2.0}),
            ("max_retries", {"max_retries": "3"}),
            ("max_retries", {"max_retries": None}),
            ("backoff", {"backoff": 5}),
            ("backoff", {"backoff": Backoff}),
            ("retry_on", {"retry_on": []}),
            ("retry_on", {"retry_on": "transient"}),
            ("retry_on", {"retry_on": 5}),
            ("retry_on[0]", {"retry_on": int}),
            ("retry_on[1]", {"retry_on": [OSError, "timeout"]}),
            ("retry_on[0]", {"retry_on": [OSError()]}),
            ("retry_on[0]", {"retry_on": [CANCELLED]}),
            ("escalate", {"escalate": 2.0}),
        ],
    )
    def test_refuses(self, parameter: str, given: dict[str, Any]) -> None:
        """Each wrong parameter is refused under its name, list entries with their position."""
        with pytest.raises(ConfigurationError) as caught:
            RetryPolicy(**given)

        assert caught.value.message.startswith(f"invalid {parameter}=")
        assert ": expected " in caught.value.message

    def test_number_for_backoff(self) -> None:
        """Seconds given as the backoff are answered with what to write."""
        with pytest.raises(ConfigurationError, match=r"write rs\.Backoff\.constant\(5\)"):
            RetryPolicy(backoff=5)  # type: ignore[arg-type]

    def test_failure_reason(self) -> None:
        """FailureReason is the protocol's own."""
        assert failure.FailureReason is FailureReason
