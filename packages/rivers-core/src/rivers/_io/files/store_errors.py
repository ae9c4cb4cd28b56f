"""Explain errors of object stores that a retry cannot fix: no such bucket, no access, the wrong region."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["Explanation", "StoreRefusedError", "explain", "short_text"]

# The crate object_store, which obstore wraps, reports the status and the XML response only in the error's text. The
# codes are those of S3 and compatible stores (MinIO, Ceph, GCS's XML API), Azure Blob Storage and Data Lake Storage.
_NO_BUCKET = re.compile(
    r"NoSuchBucket|ContainerNotFound|FilesystemNotFound|[Tt]he specified (bucket|container) does not"
)
_DENIED = re.compile(r"status code: 40[13] |ExpiredToken|InvalidToken|lacked (valid|the necessary)")
_REGION = re.compile(r"redirect without LOCATION|AuthorizationHeaderMalformed|PermanentRedirect|IllegalLocation")
# 408, 425 and 429 may pass, and 404, 409 and 412 are about one object. A retry gets any other 4xx again.
_REFUSED = re.compile(r"status code: 4(?!04|08|09|12|25|29)\d\d ")
_REQUEST = re.compile(r"(?:GET|PUT|POST|HEAD|DELETE) (https?://[^/\s?]+)")
_QUERY = re.compile(r"(https?://[^\s?]+)\?\S*")
_CODE = re.compile(r"<Code>(\w+)</Code>")


class StoreRefusedError(OSError):
    """The error of a store that its configuration makes unreadable; `hint` says what to change."""

    def __init__(self, number: int, text: str, path: str, hint: str) -> None:
        super().__init__(number, text, path)
        self.hint = hint


class Explanation(NamedTuple):
    """The cause of a store's refusal, which a retry cannot change, and a hint."""

    message: str
    hint: str


def explain(error: BaseException, url: str) -> Explanation | None:
    """Explain why the store at `url` refuses; return None for an error that may pass or is about one object."""
    text = str(error)
    request = _REQUEST.search(text)
    bucket = urlsplit(url).netloc
    kind = "container" if url.startswith(("az:", "azure:", "abfs", "adl:")) else "bucket"
    where = f"{kind} {bucket!r}" + (f" at {request[1]}" if request else "")
    if _NO_BUCKET.search(text):
        return Explanation(f"no {where}", f"check the {kind}'s name, the account and the region")
    code = _CODE.search(text)
    answer = code[1] if code else short_text(error)
    if isinstance(error, PermissionError) or _DENIED.search(text):
        return Explanation(
            f"access denied to {where}: {answer}",
            "give this process credentials that may get, put, list and delete below the prefix",
        )
    if _REGION.search(text):
        return Explanation(
            f"{where} is in another region: {answer}",
            "set the bucket's region, such as AWS_REGION in the environment of every process that opens the store",
        )
    if _REFUSED.search(text):
        return Explanation(f"{where} refuses the request: {short_text(error)}", "check the store's name and options")
    return None


def short_text(error: BaseException) -> str:
    """Return an obstore error's first lines without its debug dump, and without URL queries, which may be signed."""
    return _QUERY.sub(r"\1", str(error).partition("\n\nDebug source")[0])[:2000]
