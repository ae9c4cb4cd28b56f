"""Requests to an API server: credentials, trust, errors, connections and streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plain_cluster import SELECTOR, api_of, asked, plain_cluster, plain_pod, until
from tls_server import OK, Authority, request_of, server_tls, serving

from rivers.exceptions import ConfigurationError
from rivers_executor_k8s.api.auth import load_api_config
from rivers_executor_k8s.api.client import ApiClient, ApiError, ApiUnreachableError, load_api_client
from rivers_k8s_testing import FakeCluster, Fault

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster of pods that are not started."""
    with plain_cluster() as cluster:
        yield cluster


def kubeconfig(folder: Path, server: str, *, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    """The file of a kubeconfig with two contexts, `one` being the current one."""
    context = {"cluster": "c", "user": "u"}
    contexts = [{"name": "one", "context": context}, {"name": "two", "context": {**context, "namespace": "second"}}]
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": contexts,
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.write_text(json.dumps(content))
    return path


async def ask(path: Path, count: int = 1, method: str = "GET") -> None:
    """Ask the server of a kubeconfig for something, so many times."""
    api = ApiClient(load_api_config(None, {"KUBECONFIG": str(path)}))
    try:
        for _ in range(count):
            await api.request(method, "/version", body={} if method == "POST" else None)
    finally:
        await api.close()


def on(fake: FakeCluster, use: Callable[[ApiClient], Awaitable[Any]]) -> Any:
    """Return the result of a use of a fake cluster's API."""

    async def scenario() -> Any:
        api = api_of(fake)
        try:
            return await use(api)
        finally:
            await api.close()

    return asyncio.run(scenario())


class TestWhere:
    def test_the_current_context_and_another(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Server and namespace are those of the current context, or of the one that is asked for."""
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, "http://127.0.0.1:1/clusters/x/")))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        one, two = load_api_client(None), load_api_client("two")

        assert ("default", "second") == (one.namespace, two.namespace)
        assert "http://127.0.0.1:1/clusters/x" == one.server
        assert not one.in_cluster

    def test_an_unknown_context_is_named(self, tmp_path: Path) -> None:
        """A context that is not there is refused with those that are."""
        path = kubeconfig(tmp_path, "http://127.0.0.1:1")

        with pytest.raises(ConfigurationError, match=r"invalid context='three': expected one of .*: one, two"):
            load_api_config("three", {"KUBECONFIG": str(path)})

    @pytest.mark.parametrize("content", [None, "", "}{", "- a list", "kind: Config"])
    def test_no_configuration(self, tmp_path: Path, content: str | None) -> None:
        """A missing or unreadable kubeconfig is refused with its path and a hint."""
        path = tmp_path / "nothing"
        if content is not None:
            path.write_text(content)

        with pytest.raises(ConfigurationError, match="nothing") as refused:
            load_api_config(None, {"KUBECONFIG": str(path)})
        assert "set KUBECONFIG" in str(refused.value.hint)

    @pytest.mark.parametrize(
        ("server", "word"), [("ftp://x", "http:// or https://"), ("https://" + "a" * 70, "label"), ("nothing", "http")]
    )
    def test_a_server_that_cannot_be(self, tmp_path: Path, server: str, word: str) -> None:
        """A server that is no address is refused before anything is asked."""
        with pytest.raises(ConfigurationError, match=word):
            load_api_config(None, {"KUBECONFIG": str(kubeconfig(tmp_path, server))})

    def test_a_proxy_of_another_kind(self, tmp_path: Path) -> None:
        """A proxy that does not speak HTTP is refused, without the password in its address."""
        path = kubeconfig(tmp_path, "https://example.invalid", **{"proxy-url": "socks5://me:hunter2@127.0.0.1:1"})

        with pytest.raises(ConfigurationError, match=r"'socks5://127.0.0.1'") as refused:
            load_api_config(None, {"KUBECONFIG": str(path)})
        assert "hunter2" not in str(refused.value)

    def test_in_a_pod(self, tmp_path: Path) -> None:
        """In a pod its service account counts, and before a kubeconfig; with a context the kubeconfig does."""
        authority = Authority(tmp_path)
        account = service_account(tmp_path, authority, "secret")
        environ = {
            "KUBERNETES_SERVICE_HOST": "fd00::1",
            "KUBERNETES_SERVICE_PORT": "443",
            "KUBECONFIG": str(kubeconfig(tmp_path, "http://127.0.0.1:1")),
        }
        inside, outside = load_api_config(None, environ, account), load_api_config("two", environ, account)

        assert (True, "own") == (inside.in_cluster, inside.namespace)
        assert "https://[fd00::1]" == inside.endpoint.server
        assert (False, "second") == (outside.in_cluster, outside.namespace)


def service_account(folder: Path, authority: Authority, token: str) -> Path:
    """The folder that a pod finds its service account in."""
    account = folder / "account"
    account.mkdir(exist_ok=True)
    (account / "token").write_text(token)
    (account / "ca.crt").write_bytes(authority.file.read_bytes())
    (account / "namespace").write_text("own\n")
    return account


class TestWhoWeAre:
    def test_a_renewed_token_is_found(self, fake: FakeCluster) -> None:
        """A token that is not accepted any more is read again, once, and the request goes on (K1)."""

        async def use(api: ApiClient) -> None:
            await api.request("GET", PODS)
            fake.expire_token()
            fake.renew_token()
            await api.request("GET", PODS)
            async with api.stream(PODS, {"watch": "true"}, silence=5.0):
                pass

        on(fake, use)
        assert [200, 401, 200, 200] == [request.status for request in fake.requests]

    def test_a_stream_renews_it_as_well(self, fake: FakeCluster) -> None:
        """A watch that is begun with a token that is none any more finds the next one."""

        async def use(api: ApiClient) -> None:
            await api.request("GET", PODS)
            fake.expire_token()
            fake.renew_token()
            async with api.stream(PODS, {"watch": "true"}, silence=5.0):
                pass

        on(fake, use)
        assert [200, 401, 200] == [request.status for request in fake.requests]

    def test_an_expired_one_is_an_error(self, fake: FakeCluster) -> None:
        """Without a new token the API server's error is raised after a second try."""
        fake.expire_token()

        with pytest.raises(ApiError, match="401 Unauthorized"):
            on(fake, lambda api: api.request("GET", PODS))
        assert 2 == len(fake.requests)

    def test_many_at_once_read_it_once(self, fake: FakeCluster) -> None:
        """Requests that are refused together all find the new token, and it is read for all of them."""

        async def use(api: ApiClient) -> None:
            await api.request("GET", PODS)
            fake.expire_token()
            fake.renew_token()
            await asyncio.gather(*(api.request("GET", PODS) for _ in range(20)))

        on(fake, use)
        assert 20 >= sum(request.status == 401 for request in fake.requests) > 0

    def test_a_rotated_service_account_token(self, tmp_path: Path) -> None:
        """The file of a service account's token is read again when the old one is refused (K1, K47)."""
        authority = Authority(tmp_path)
        account = service_account(tmp_path, authority, "old")
        seen: list[str] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                lines = await request_of(reader)
                seen.append(next(line for line in lines if line.startswith("Authorization")))
                refused = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
                writer.write(OK if "new" in seen[-1] else refused)

        async def scenario() -> None:
            tls = server_tls(authority, "localhost")
            async with serving(handler, tls) as port:
                environ = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(port)}
                api = ApiClient(load_api_config(None, environ, account))
                service_account(tmp_path, authority, "new\n")
                await api.request("GET", "/version")
                await api.close()

        asyncio.run(scenario())
        assert ["Authorization: bearer old", "Authorization: bearer new"] == seen

    def test_a_credential_plugin(self, fake: FakeCluster, tmp_path: Path) -> None:
        """A program of the kubeconfig gives the token, and is asked again when that is refused (K1)."""
        plugin = tmp_path / "plugin"
        plugin.write_text(
            f"#!{sys.executable}\n"
            "import json, sys\n"
            f"token = json.load(open({str(fake.kubeconfig)!r}))['users'][0]['user']['token']\n"
            f"open({str(tmp_path / 'asked')!r}, 'a').write('x')\n"
            "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential',\n"
            "                  'status': {'token': token}}))\n"
        )
        plugin.chmod(0o700)
        user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}
        path = kubeconfig(tmp_path, fake.url, user=user)

        async def scenario() -> None:
            api = ApiClient(load_api_config(None, {"KUBECONFIG": str(path)}))
            for _ in range(2):
                await api.request("GET", PODS)
                fake.expire_token()
                fake.renew_token()
            await api.close()

        asyncio.run(scenario())
        assert [200, 401, 200] == [request.status for request in fake.requests]
        assert "xx" == (tmp_path / "asked").read_text()


class TestTrust:
    def test_certificates_of_both_sides(self, tmp_path: Path) -> None:
        """The server's certificate is checked for the name that is configured, and it sees ours."""
        authority = Authority(tmp_path)
        certificate, key = authority.issue("me")
        peers: list[Any] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peers.append(writer.get_extra_info("peercert"))
            while True:
                await request_of(reader)
                writer.write(OK)

        async def scenario() -> None:
            async with serving(handler, server_tls(authority, "api.example")) as port:
                user = {"client-certificate": str(certificate), "client-key": str(key)}
                path = kubeconfig(
                    tmp_path,
                    f"https://127.0.0.1:{port}",
                    user=user,
                    **{"certificate-authority": str(authority.file), "tls-server-name": "api.example"},
                )
                await ask(path, 3)

        asyncio.run(scenario())
        (peer,) = peers  # three requests, one connection
        assert ((("commonName", "me"),),) == peer["subject"]

    @pytest.mark.parametrize(("name", "ca"), [("other.example", "ca"), ("api.example", "another")])
    def test_a_stranger(self, tmp_path: Path, name: str, ca: str) -> None:
        """A server with another's certificate, or another authority's, is told nothing."""
        authority, another = Authority(tmp_path), Authority(tmp_path, "another")
        trusted = authority if ca == "ca" else another
        heard: list[bytes] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read(100))

        async def scenario() -> None:
            async with serving(handler, server_tls(authority, "api.example")) as port:
                path = kubeconfig(
                    tmp_path,
                    f"https://127.0.0.1:{port}",
                    **{"certificate-authority": str(trusted.file), "tls-server-name": name},
                )
                await ask(path)

        with pytest.raises(ApiUnreachableError, match="is not trusted: "):
            asyncio.run(scenario())
        assert [] == [data for data in heard if data]

    def test_through_a_proxy(self, tmp_path: Path) -> None:
        """A proxy connects to the server and sees nothing of what is asked; it gets what is its own."""
        authority = Authority(tmp_path)
        connects: list[str] = []
        ports: list[int] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await request_of(reader)
                writer.write(OK)

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connects.extend(await request_of(reader))
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", ports[0])
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

            async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)

            try:
                await asyncio.gather(carry(reader, up_writer), carry(up_reader, writer))
            finally:
                up_writer.transport.abort()

        async def scenario() -> None:
            async with serving(handler, server_tls(authority, "api.example")) as port, serving(proxy) as gate:
                ports.append(port)
                more = {"proxy-url": f"http://me:hunter2@127.0.0.1:{gate}"}
                path = kubeconfig(
                    tmp_path, "https://api.example:6443", **more, **{"certificate-authority": str(authority.file)}
                )
                await ask(path, 2)

        asyncio.run(scenario())
        assert "CONNECT api.example:6443 HTTP/1.1" == connects[0]
        assert "Proxy-Authorization: Basic bWU6aHVudGVyMg==" in connects
        own = {"Host", "Proxy-Authorization", "Accept", "Accept-Encoding", "User-Agent"}
        assert own == {line.partition(":")[0] for line in connects[1:]}
        assert 1 == sum(line.startswith("CONNECT") for line in connects)


class TestErrors:
    def test_a_status_is_taken_apart(self, fake: FakeCluster) -> None:
        """Status, reason, message and the time to wait are those of the answer."""
        fake.faults.add(Fault.status(429, "slow down", retry_after=7))

        with pytest.raises(ApiError) as raised:
            on(fake, lambda api: api.request("GET", PODS))
        error = raised.value
        assert (429, "TooManyRequests", "slow down", 7.0) == (
            error.status,
            error.reason,
            error.message,
            error.retry_after,
        )
        assert "429 TooManyRequests: slow down" == str(error)

    @pytest.mark.parametrize(("where", "seconds"), [("header", 3.0), ("body", 4.0)])
    def test_retry_after_in_either_place(self, fake: FakeCluster, where: Any, seconds: float) -> None:
        """Header and body both count."""
        fake.faults.add(Fault.status(503, retry_after=seconds, retry_after_in=where))

        with pytest.raises(ApiError) as raised:
            on(fake, lambda api: api.request("GET", PODS))
        assert seconds == raised.value.retry_after

    def test_a_page_of_somebody_else(self, fake: FakeCluster) -> None:
        """An answer that is no Status is an error with some words of it, without its markup (K12)."""
        fake.faults.add(Fault.html(502))

        with pytest.raises(ApiError, match=r"^502: Bad Gateway: 502 Error No server is available\.$") as raised:
            on(fake, lambda api: api.request("GET", PODS))
        assert "" == raised.value.reason

    @pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 2", b"HTTP/1.1 abc\r\n\r\n"])
    def test_no_http(self, tmp_path: Path, answer: bytes) -> None:
        """A server that does not speak HTTP counts as unreachable."""
        assert "is not reachable" in str(answered(tmp_path, answer))

    @pytest.mark.parametrize(
        "body",
        [
            b"Content-Length: 9\r\n\r\nhalf",
            b"Transfer-Encoding: chunked\r\n\r\n9\r\nhalf",
            b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        ],
    )
    def test_an_answer_that_is_cut(self, tmp_path: Path, body: bytes) -> None:
        """Half an answer is none."""
        assert isinstance(answered(tmp_path, b"HTTP/1.1 200 OK\r\n" + body), ApiUnreachableError)

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\nA: b\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\n{}",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 204 No Content\r\n\r\n",
        ],
    )
    def test_every_form_of_a_body(self, tmp_path: Path, answer: bytes) -> None:
        """Chunks with extensions and trailers, no length, an answer before the answer, no body: all are read."""
        assert answered(tmp_path, answer) is None

    def test_nobody_there(self, tmp_path: Path) -> None:
        """A refused connection is told with the server's address (K13)."""
        with pytest.raises(ApiUnreachableError, match=r"http://127\.0\.0\.1:1 is not reachable"):
            asyncio.run(ask(kubeconfig(tmp_path, "http://127.0.0.1:1")))

    def test_a_hanging_request(self, tmp_path: Path) -> None:
        """A request takes as long as it may in all, however slowly bytes come (K14)."""

        async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.1)

        async def scenario() -> float:
            async with serving(drip) as port:
                path = kubeconfig(tmp_path, f"http://127.0.0.1:{port}")
                api = ApiClient(load_api_config(None, {"KUBECONFIG": str(path)}))
                begun = time.monotonic()
                with pytest.raises(ApiUnreachableError, match="did not answer in time"):
                    await api.request("GET", "/version", within=1.0)
                await api.close()
                return time.monotonic() - begun

        assert asyncio.run(scenario()) < 3.0


def answered(folder: Path, answer: bytes) -> ApiUnreachableError | None:
    """The error that an answer leads to, or None."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async def scenario() -> None:
        async with serving(handler) as port:
            await ask(kubeconfig(folder, f"http://127.0.0.1:{port}"))

    try:
        asyncio.run(scenario())
    except ApiUnreachableError as error:
        return error
    return None


class TestConnections:
    @pytest.mark.parametrize(("method", "reached"), [("GET", True), ("POST", False)])
    def test_one_that_was_closed_meanwhile(self, tmp_path: Path, method: str, reached: bool) -> None:
        """A kept connection that is closed on us is replaced; what may make something is not sent twice unseen."""
        count = 0

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            await request_of(reader)
            count += 1
            writer.write(OK)
            await request_of(reader)
            count += 1
            writer.transport.abort()  # it was heard, and is never answered on this connection

        async def scenario() -> None:
            async with serving(handler) as port:
                path = kubeconfig(tmp_path, f"http://127.0.0.1:{port}")
                await ask(path, 2, method)

        with contextlib.nullcontext() if reached else pytest.raises(ApiUnreachableError):
            asyncio.run(scenario())
        assert (3 if reached else 2) == count

    def test_are_kept(self, tmp_path: Path) -> None:
        """Requests one after the other use one connection."""
        count = 0

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            while True:
                await request_of(reader)
                writer.write(OK)

        async def scenario() -> None:
            async with serving(handler) as port:
                await ask(kubeconfig(tmp_path, f"http://127.0.0.1:{port}"), 50)

        asyncio.run(scenario())
        assert 1 == count

    def test_cancelling_closes_one(self, fake: FakeCluster) -> None:
        """A request that is given up leaves no connection behind, and the next one works."""
        fake.faults.add(Fault.hang(), times=1)

        async def use(api: ApiClient) -> None:
            asking = asyncio.ensure_future(api.request("GET", PODS))
            await until(lambda: bool(fake.requests))
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await api.request("GET", PODS)
            await until(lambda: 1 == sum(own.fileno() != -1 for own in api._transport._sockets))

        on(fake, use)

    def test_after_the_close(self, fake: FakeCluster) -> None:
        """A request after the close is unreachable and opens no connection."""

        async def use(api: ApiClient) -> None:
            await api.request("GET", PODS)
            await api.close()
            with pytest.raises(ApiUnreachableError, match="was closed"):
                await api.request("GET", PODS)

        on(fake, use)
        assert 1 == len(fake.requests)

    def test_a_close_ends_requests(self, fake: FakeCluster) -> None:
        """Requests under way at the close end at once, as unreachable."""
        fake.faults.add(Fault.hang())

        async def use(api: ApiClient) -> None:
            asking = [asyncio.ensure_future(api.request("GET", PODS)) for _ in range(3)]
            await until(lambda: 3 == len(fake.requests))
            await api.close()
            errors = await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 2)
            assert [ApiUnreachableError] * 3 == [type(error) for error in errors]

        on(fake, use)

    @pytest.mark.filterwarnings("error")
    def test_a_close_leaves_no_descriptor(self, tmp_path: Path) -> None:
        """The close leaves no descriptor, even if the server does not answer TLS's close_notify."""
        authority = Authority(tmp_path)

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await request_of(reader)
            writer.write(OK if "version" in request[0] else b"HTTP/1.1 200 OK\r\n\r\n{}\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # as one that is blocked
            await asyncio.sleep(30)

        async def scenario() -> tuple[float, set[str]]:
            async with serving(handler, server_tls(authority, "localhost")) as port:
                path = kubeconfig(
                    tmp_path, f"https://localhost:{port}", **{"certificate-authority": str(authority.file)}
                )
                api = ApiClient(load_api_config(None, {"KUBECONFIG": str(path)}))
                async with api.stream("/stream", {}, silence=5.0) as stream:
                    assert b"{}\n" == await stream.read()
                    await api.request("GET", "/version")
                hanging = asyncio.ensure_future(api.request("GET", "/version", within=0.2))
                await asyncio.gather(hanging, return_exceptions=True)
                mine = {own.fileno() for own in api._transport._sockets}
                begun = time.monotonic()
                await api.close()
                left = {own.fileno() for own in api._transport._sockets} - {-1}
                assert mine
                return time.monotonic() - begun, left

        seconds, left = asyncio.run(scenario())
        assert set() == left
        assert seconds < 2.0


class TestWhatALibraryMightAdd:
    """The HTTP library adds no redirect, cookie, encoding or password of its own."""

    def asked_of(self, folder: Path, answer: bytes, count: int = 1) -> list[list[str]]:
        """The requests that a server gets which answers like this."""
        requests: list[list[str]] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                requests.append(await request_of(reader))
                writer.write(answer)

        async def scenario() -> None:
            async with serving(handler) as port:
                with contextlib.suppress(ApiError):
                    await ask(kubeconfig(folder, f"http://127.0.0.1:{port}", user={"token": "secret"}), count)

        asyncio.run(scenario())
        return requests

    def test_no_redirect(self, tmp_path: Path) -> None:
        """A redirect is an error: credentials go to no other server."""
        answer = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"

        assert 1 == len(self.asked_of(tmp_path, answer))

    def test_no_cookie(self, tmp_path: Path) -> None:
        """A load balancer's cookie is not sent back."""
        answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 2\r\n\r\n{}"
        _, second = self.asked_of(tmp_path, answer, 2)

        assert [] == [line for line in second if line.startswith("Cookie")]

    def test_no_encoding_is_asked_for(self, tmp_path: Path) -> None:
        """No compression is requested, and no header is sent beyond the four we set."""
        (request,) = self.asked_of(tmp_path, OK)
        names = {line.partition(":")[0] for line in request[1:]}

        assert {"Host", "Authorization", "Accept", "User-Agent"} == names

    def test_no_password_of_other_programs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Credentials come from the kubeconfig, never from ~/.netrc."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        (request,) = self.asked_of(tmp_path, OK)

        assert "Authorization: Bearer secret" in request


class TestStreams:
    def test_many_at_once(self, fake: FakeCluster) -> None:
        """Streams are not limited in number, and requests do not queue behind them."""

        async def use(api: ApiClient) -> None:
            async with contextlib.AsyncExitStack() as streams:
                for _ in range(150):
                    await streams.enter_async_context(api.stream(PODS, {"watch": "true"}, silence=5.0))
                await api.request("GET", PODS)

        on(fake, use)
        assert 150 == asked(fake, "watch")

    def test_a_very_long_line(self, tmp_path: Path) -> None:
        """A line of 3 MB is read whole; one of more than 8 MB ends the stream."""

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3_000_000 + b"\n" + b"y" * 9_000_000)
            await writer.drain()
            await reader.read()

        async def scenario() -> list[int]:
            async with serving(handler) as port:
                api = ApiClient(
                    load_api_config(None, {"KUBECONFIG": str(kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))})
                )
                sizes: list[int] = []
                with pytest.raises(ApiUnreachableError, match="a line is longer than 8388608 bytes"):
                    async with api.stream("/x", {}, silence=5.0) as stream:
                        async for line in stream.lines():
                            sizes.append(len(line))
                await api.close()
                return sizes

        assert [3_000_000] == asyncio.run(scenario())

    def test_lines_of_a_watch(self, fake: FakeCluster) -> None:
        """Events come as whole lines, as they happen."""

        async def use(api: ApiClient) -> list[str]:
            query = {"watch": "true", "labelSelector": SELECTOR}
            async with api.stream(PODS, query, silence=5.0) as stream:
                await api.request("POST", PODS, body=plain_pod("p"))
                async for line in stream.lines():
                    return [json.loads(line)["type"], json.loads(line)["object"]["metadata"]["name"]]
            return []

        assert ["ADDED", "p"] == on(fake, use)

    def test_silence(self, fake: FakeCluster) -> None:
        """A stream in which nothing comes for too long is broken (K16)."""
        fake.faults.add(Fault.stall(), verb="watch")

        async def use(api: ApiClient) -> None:
            query = {"watch": "true", "allowWatchBookmarks": "true"}
            async with api.stream(PODS, query, silence=0.5) as stream:
                async for line in stream.lines():
                    print(line)

        with pytest.raises(ApiUnreachableError, match=r"has sent nothing for 0\.5 s"):
            on(fake, use)

    def test_a_refusal(self, fake: FakeCluster) -> None:
        """A stream that is refused raises what the API server says."""
        fake.deny("watch", "pods")

        async def use(api: ApiClient) -> None:
            async with api.stream(PODS, {"watch": "true"}, silence=0.5):
                pass

        with pytest.raises(ApiError, match="403 Forbidden"):
            on(fake, use)
        assert 1 == asked(fake, "watch")

    def test_lines_across_pieces(self, tmp_path: Path) -> None:
        """Lines are put together from whatever pieces they come in, and the last one needs no end."""

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            for piece in (b"on", b"e\ntwo\nth", b"ree\n", b"\n", "vierä".encode()):
                writer.write(piece)
                await asyncio.sleep(0.01)
            writer.close()
            await writer.wait_closed()

        async def scenario() -> list[str]:
            async with serving(handler) as port:
                path = kubeconfig(tmp_path, f"http://127.0.0.1:{port}")
                api = ApiClient(load_api_config(None, {"KUBECONFIG": str(path)}))
                try:
                    async with api.stream("/x", {}, silence=5.0) as stream:
                        return [line.decode() async for line in stream.lines()]
                finally:
                    await api.close()

        assert ["one", "two", "three", "", "vierä"] == asyncio.run(scenario())


def test_default_trust_is_the_systems(tmp_path: Path) -> None:
    """Without an authority in the kubeconfig the system's are trusted, and the name is checked."""
    access = load_api_config(None, {"KUBECONFIG": str(kubeconfig(tmp_path, "https://127.0.0.1:1"))})
    tls = access.endpoint.tls

    assert tls is not None
    assert (ssl.CERT_REQUIRED, True) == (tls.verify_mode, tls.check_hostname)


def test_insecure_as_configured(tmp_path: Path) -> None:
    """A kubeconfig can switch verification off."""
    path = kubeconfig(tmp_path, "https://127.0.0.1:1", **{"insecure-skip-tls-verify": True})
    tls = load_api_config(None, {"KUBECONFIG": str(path)}).endpoint.tls

    assert tls is not None
    assert (ssl.CERT_NONE, False) == (tls.verify_mode, tls.check_hostname)
