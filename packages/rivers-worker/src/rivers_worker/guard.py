"""Who may call: on every method, whoever is not the controller of this run is refused before a handler is entered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
from cryptography.x509.oid import ExtendedKeyUsageOID

from rivers_worker.credentials import is_peer

__all__ = ["Guard"]

REMEMBERED = 16


class Guard(grpc.ServerInterceptor):  # type: ignore[misc]  # grpcio ships no types
    """Compares the certificate that the caller has shown in the TLS handshake with the one that was pinned."""

    def __init__(self, controller: bytes, name: str) -> None:
        self._controller = controller
        self._name = name
        self._judged: dict[bytes, bool] = {}

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Put the question before the handler of whatever method is called."""
        handler = continuation(details)
        if handler is None:
            return None  # there is no such method; gRPC says so
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._before(handler.unary_unary), handler.request_deserializer, handler.response_serializer
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._before_stream(handler.unary_stream), handler.request_deserializer, handler.response_serializer
            )
        raise TypeError(f"{details.method} takes a stream: the guard does not know how to stand before that")

    def _before(self, handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def guarded(request: Any, context: Any) -> Any:
            self._check(context)
            return handler(request, context)

        return guarded

    def _before_stream(self, handler: Callable[[Any, Any], Iterator[Any]]) -> Callable[[Any, Any], Iterator[Any]]:
        def guarded(request: Any, context: Any) -> Iterator[Any]:
            self._check(context)
            yield from handler(request, context)

        return guarded

    def _check(self, context: Any) -> None:
        (shown,) = context.auth_context().get("x509_pem_cert", ()) or (b"",)
        if shown not in self._judged and len(self._judged) < REMEMBERED:
            self._judged[shown] = is_peer(shown, self._controller, self._name, ExtendedKeyUsageOID.CLIENT_AUTH)
        if not self._judged.get(shown, False):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this is not the controller of this worker's run")
