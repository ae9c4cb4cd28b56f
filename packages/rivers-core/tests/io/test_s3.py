"""An object store that answers 503, loses answers, denies, or is cut off half way (fault O8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rivers._io.files.store_errors import explain, short_text
from rivers.exceptions import InputLoadError, OutputCommitError
from rivers.io_handlers import InputContext, OutputContext, PickleIOHandler

pytest.importorskip("obstore")


def _out(key: str = "k", attempt_id: str = "a1", run_id: str = "run1", step: str | None = None) -> OutputContext:
    return OutputContext(key, run_id=run_id, step=step or key, attempt_id=attempt_id)


def _read(handler: PickleIOHandler, key: str = "k", run_id: str | None = None) -> Any:
    return handler.load_input(InputContext(key, run_id=run_id))


@pytest.mark.parametrize("kind", ["PUT", "COPY", "GET", "HEAD"])
def test_passing_503(s3: Any, kind: str) -> None:
    """Two 503 in a row are retried and not noticed, whatever the request."""
    handler = PickleIOHandler(s3.store())
    s3.fail(kind, times=2)
    handler.handle_output(_out(), "value")

    assert "value" == _read(handler, run_id="run1") == _read(handler)
    assert "a1" == handler.committed("run1", "k")


def test_lasting_503(s3: Any) -> None:
    """An unavailable store is given up after a bounded number of requests, with errors that may be retried."""
    handler = PickleIOHandler(s3.store())
    s3.fail("PUT")
    s3.fail("GET")

    with pytest.raises(OutputCommitError, match=r"s3://bucket/base/k.pkl: .*503") as stored:
        handler.handle_output(_out(), 1)
    with pytest.raises(InputLoadError, match=r"the value of 'k' cannot be read.*503") as loaded:
        _read(handler)

    assert stored.value.retryable
    assert loaded.value.retryable
    assert len(s3.requests) <= 6


@pytest.mark.parametrize("status", [401, 403])
def test_denied(s3: Any, status: int) -> None:
    """Access denied is not retried and says which rights are needed."""
    handler = PickleIOHandler(s3.store())
    s3.fail("PUT", status=status)
    s3.fail("GET", status=status)

    with pytest.raises(OutputCommitError, match="access denied") as stored:
        handler.handle_output(_out(), 1)
    with pytest.raises(InputLoadError, match="cannot be read") as loaded:
        _read(handler)

    assert not stored.value.retryable
    assert not loaded.value.retryable


REFUSALS = {
    "no bucket": (404, "NoSuchBucket", r"no bucket 'bucket' at http://127\.0\.0\.1:\d+ ", "name, the account"),
    "no container": (404, "ContainerNotFound", "no bucket 'bucket' at", "name, the account"),
    "no rights": (403, "AccessDenied", "access denied to bucket 'bucket' at .*: AccessDenied", "credentials"),
    "wrong key": (403, "SignatureDoesNotMatch", "access denied to bucket .*: SignatureDoesNotMatch", "credentials"),
    "old token": (400, "ExpiredToken", "access denied to bucket 'bucket' at .*: ExpiredToken", "credentials"),
    "region": (400, "AuthorizationHeaderMalformed", "bucket 'bucket' at .* is in another region", "AWS_REGION"),
    "redirect": (301, "PermanentRedirect", "bucket 'bucket' at .* is in another region", "AWS_REGION"),
    "bad name": (400, "InvalidBucketName", "bucket 'bucket' at .* refuses the request.*InvalidBucketName", "options"),
}


@pytest.mark.parametrize(("status", "code", "message", "hint"), REFUSALS.values(), ids=REFUSALS)
def test_refusal(s3: Any, status: int, code: str, message: str, hint: str) -> None:
    """The error of a misconfigured store names bucket, endpoint and cause, and is not retried."""
    handler = PickleIOHandler(s3.store())
    s3.fail("*", status=status, code=code)
    attempts: list[Callable[[], Any]] = [
        lambda: handler.handle_output(_out(), 1),
        lambda: handler.handle_output(_out(), bytes(9 << 20)),
        lambda: handler.handle_output(_out(run_id=""), 1),
        lambda: handler.stage(_out(step="multi"), 1),
        lambda: handler.commit("run1", "multi", "a1", ("k",)),
        lambda: _read(handler),
        lambda: _read(handler, run_id="run1"),
    ]
    for attempt in attempts:
        with pytest.raises((OutputCommitError, InputLoadError), match=message) as caught:
            attempt()
        assert not caught.value.retryable
        assert hint in str(caught.value)
    handler.end_run("run1")


def test_signed_urls_are_not_repeated() -> None:
    """The query of a URL may be a signature, and is left out of messages."""
    error = OSError(
        "Error performing GET https://a.blob.core.windows.net/c/k?sv=1&sig=secret in 1ms - status code: 503 x"
    )

    assert "Error performing GET https://a.blob.core.windows.net/c/k in 1ms - status code: 503 x" == short_text(error)
    assert explain(error, "az://c") is None


@pytest.mark.parametrize("several", [False, True])
def test_lost_answer(s3: Any, several: bool) -> None:
    """When the answer to the conditional create is lost, the repeated request finds its own commit and succeeds."""
    handler = PickleIOHandler(s3.store())
    s3.fail("PUT", r"run1/(k\.pkl|multi\.commit)$", times=1, after=True)
    if several:
        handler.stage(_out(step="multi"), "value")
        handler.commit("run1", "multi", "a1", ("k",))
    else:
        handler.handle_output(_out(), "value")

    assert "value" == _read(handler, run_id="run1") == _read(handler)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("finisher", ["committed", "rival"])
def test_cut_short(s3: Any, several: bool, finisher: str) -> None:
    """A commit whose publication failed is finished by the next process."""
    handler = PickleIOHandler(s3.store())
    handler.handle_output(_out(run_id="run0", attempt_id="a0"), "old")
    s3.fail("COPY", status=403, times=1)
    step = "multi" if several else "k"
    with pytest.raises(OutputCommitError, match="access denied"):
        _store(handler, "a1", step)
    assert "old" == _read(handler)

    if finisher == "committed":
        assert "a1" == handler.committed("run1", step)
    else:
        with pytest.raises(OutputCommitError, match="'a1' has committed"):
            _store(handler, "a2", step)

    assert "a1" == _read(handler) == _read(handler, run_id="run1")


def _store(handler: PickleIOHandler, attempt: str, step: str) -> None:
    if step == "k":
        handler.handle_output(_out(attempt_id=attempt), attempt)
    else:
        handler.stage(_out(attempt_id=attempt, step=step), attempt)
        handler.commit("run1", step, attempt, ("k",))


def test_conditional_create_decides(s3: Any) -> None:
    """Commits are PUTs with `If-None-Match: *`; the server's 412 makes the second attempt lose."""
    handler = PickleIOHandler(s3.store())
    handler.handle_output(_out(attempt_id="a1"), "first")

    with pytest.raises(OutputCommitError, match="'a1' has committed"):
        handler.handle_output(_out(attempt_id="a2"), "second")
    assert "first" == _read(handler)


def test_large(s3: Any) -> None:
    """A value of 9 MB goes up in parts, and wins or loses as a small one does."""
    handler = PickleIOHandler(s3.store())
    handler.handle_output(_out(attempt_id="a1"), bytes(9_000_000))
    with pytest.raises(OutputCommitError, match="'a1' has committed"):
        handler.handle_output(_out(attempt_id="a2"), "small")
    handler.end_run("run1")

    assert 9_000_000 == len(_read(handler))
    assert ["base/.rivers/ended/run1", "base/.rivers/swept", "base/k.pkl"] == sorted(s3.objects)


def test_truncated_object(s3: Any) -> None:
    """An object that was cut short is an InputLoadError that is not retried."""
    handler = PickleIOHandler(s3.store())
    handler.handle_output(_out(), "value")
    data, modified = s3.objects["base/k.pkl"]
    s3.objects["base/k.pkl"] = (data[:-5], modified)

    with pytest.raises(InputLoadError, match=r"'k' is damaged.*cut short") as caught:
        _read(handler)
    assert not caught.value.retryable


@pytest.mark.parametrize("key", ["a b", "ü/é", "a%2Fb", "x[y=1&z]", "#?+;", "'\"<>&", "a.pkl/b", "€" * 170])
def test_odd_keys(s3: Any, key: str) -> None:
    """Keys with characters that URLs and XML reserve are stored, and removed by name."""
    handler = PickleIOHandler(s3.store())
    handler.handle_output(_out(key), key)

    assert key == _read(handler, key, "run1") == _read(handler, key)
    handler.end_run("run1")
    assert 3 == len(s3.objects)  # the value, the mark of the run's end, the time of the last sweep
