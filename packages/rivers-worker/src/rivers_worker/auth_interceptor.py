"""Refuse every call that does not come from the controller of this run, before its handler is entered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
from cryptography.x509.oid import ExtendedKeyUsageOID

from rivers_worker.credentials import is_peer

__all__ = ["AuthInterceptor"]

MAX_REMEMBERED = 16


class AuthInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]  # grpcio ships no types
    """A server interceptor that compares the caller's certificate with the pinned one."""

    def __init__(self, controller: bytes, name: str) -> None:
        self._controller = controller
        self._name = name
        self._verdicts: dict[bytes, bool] = {}

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Return the handler of a method with the check in front of it."""
        handler = continuation(details)
        if handler is None:
            return None  # there is no such method: gRPC answers UNIMPLEMENTED
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._guarded(handler.unary_unary), handler.request_deserializer, handler.response_serializer
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._guarded_stream(handler.unary_stream), handler.request_deserializer, handler.response_serializer
            )
        raise TypeError(f"{details.method} takes a stream of requests, which this interceptor cannot check")

    def _guarded(self, handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def guarded(request: Any, context: Any) -> Any:
            self._check(context)
            return handler(request, context)

        return guarded

    def _guarded_stream(self, handler: Callable[[Any, Any], Iterator[Any]]) -> Callable[[Any, Any], Iterator[Any]]:
        def guarded(request: Any, context: Any) -> Iterator[Any]:
            self._check(context)
            yield from handler(request, context)

        return guarded

    def _check(self, context: Any) -> None:
        # Checking takes two parses of X.509 and is repeated for each call, so verdicts are kept, though not many.
        (certificate,) = context.auth_context().get("x509_pem_cert", ()) or (b"",)
        if certificate not in self._verdicts and len(self._verdicts) < MAX_REMEMBERED:
            self._verdicts[certificate] = is_peer(
                certificate, self._controller, self._name, ExtendedKeyUsageOID.CLIENT_AUTH
            )
        if not self._verdicts.get(certificate, False):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this is not the controller of this worker's run")
