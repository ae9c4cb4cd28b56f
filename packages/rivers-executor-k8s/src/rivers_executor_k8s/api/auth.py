"""Where the API server is, and how this process proves who it is: the one module that sees `kubernetes`.

The client library knows kubeconfigs, credential plugins and service accounts. Requests are ours (api.py), over raw
JSON: its models would cost more than everything else that a controller does.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import should_bypass_proxies
from kubernetes.config import ConfigException, list_kube_config_contexts, load_kube_config
from kubernetes.config.incluster_config import InClusterConfigLoader
from kubernetes.config.kube_config import KubeConfigMerger
from yarl import URL

from rivers.exceptions import ConfigurationError
from rivers_executor_k8s.api.transport import Endpoint, Proxy

__all__ = ["ApiConfig", "load_api_config"]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# Seconds between two looks whether the token is another one; the library reads a rotated file once a minute
LOOK_EVERY = 20.0
# Seconds between two times that everything is read again, when the API server refuses who we are
RENEW_EVERY = 5.0
# Seconds that a credential plugin gets
PLUGIN = 60.0


class ApiConfig:
    """One configuration of the client library. `load` fills one in, and does so again when it is refused.

    Raises:
        ConfigurationError: it cannot be read, or says what is not supported.
    """

    def __init__(self, load: Callable[[Configuration], None], *, namespace: str, in_cluster: bool) -> None:
        self.namespace = namespace
        self.in_cluster = in_cluster
        self._load = load
        self._lock = asyncio.Lock()
        self._header = ""
        self._looked = 0.0
        self._renewed = float("-inf")
        self._read()

    async def authorization(self) -> str:
        """The value of the header Authorization; empty where a certificate says who we are, or nothing does."""
        if time.monotonic() - self._looked < LOOK_EVERY:
            return self._header
        async with self._lock:
            if time.monotonic() - self._looked >= LOOK_EVERY:
                self._looked = time.monotonic()
                await self._in_thread(self._look)
        return self._header

    async def renew(self, refused: str) -> str:
        """Read everything again, as the API server has refused this header; returns the next one to try."""
        async with self._lock:
            if self._header == refused and time.monotonic() - self._renewed >= RENEW_EVERY:
                self._renewed = time.monotonic()
                await self._in_thread(self._read)
        return self._header

    async def _in_thread(self, work: Callable[[], None]) -> None:
        """A plugin is a program that may take its time, and a file may be missing while it is replaced."""
        try:
            async with asyncio.timeout(PLUGIN):
                await asyncio.to_thread(work)
        except (ConfigurationError, ConfigException, OSError, ValueError, yaml.YAMLError):
            return  # what is known may still do, and if not, the API server says so

    def _read(self) -> None:
        configuration = type.__call__(Configuration)  # not a copy of what others in this process have made the default
        try:
            self._load(configuration)
            self.endpoint = _endpoint_of(configuration)
        except (ConfigException, OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigurationError(f"the configuration of the cluster cannot be used: {error}") from error
        self._configuration = configuration
        self._look()
        self._looked = time.monotonic()

    def _look(self) -> None:
        setting = self._configuration.auth_settings().get("BearerToken")
        self._header = " ".join(str(setting["value"] or "").split()) if setting is not None else ""


def load_api_config(
    context: str | None, environ: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT
) -> ApiConfig:
    """The service account of this pod; outside a cluster, or with a `context`, what the kubeconfig says.

    Raises:
        ConfigurationError: there is neither, the context is not in it, or it cannot be read.
    """
    if context is None and environ.get("KUBERNETES_SERVICE_HOST") and (folder / "token").is_file():
        loader = InClusterConfigLoader(str(folder / "token"), str(folder / "ca.crt"), environ=environ)
        own = folder / "namespace"
        namespace = own.read_text().strip() if own.is_file() else "default"
        return ApiConfig(loader.load_and_set, namespace=namespace, in_cluster=True)
    files = environ.get("KUBECONFIG") or "~/.kube/config"
    wanted = _context_in(files, context)

    def load(configuration: Configuration) -> None:
        load_kube_config(config_file=files, context=wanted["name"], client_configuration=configuration)
        clusters = KubeConfigMerger(files).config["clusters"]
        cluster = clusters.get_with_name(wanted["context"]["cluster"])["cluster"]
        if proxy := cluster.safe_get("proxy-url"):  # which the library itself reads since 37
            configuration.proxy = proxy

    namespace = wanted["context"].get("namespace") or "default"
    return ApiConfig(load, namespace=namespace, in_cluster=False)


def _context_in(files: str, context: str | None) -> Any:
    """The context that is meant; the file is named where it is not there."""
    try:
        contexts, current = list_kube_config_contexts(files)
    except (ConfigException, OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"no cluster is configured: this process runs in no pod, and the kubeconfig {files!r} cannot be used: "
            f"{error}",
            hint="set KUBECONFIG, or run in a pod that has a service account",
        ) from error
    if context is None:
        return current
    found = [known for known in contexts if known["name"] == context]
    if not found:
        names = ", ".join(sorted(known["name"] for known in contexts))
        raise ConfigurationError(f"context={context!r} is not in the kubeconfig {files!r}; there are: {names}")
    return found[0]


def _endpoint_of(configuration: Configuration) -> Endpoint:
    server = configuration.host.rstrip("/")
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"the cluster's server is {server!r}: http:// or https:// and a host are needed")
    parts.hostname.encode("idna")  # a ValueError where no such name can be
    _ = parts.port  # a ValueError where it is no number
    return Endpoint(
        server=str(URL(server)).rstrip("/"),  # a name beyond ASCII as DNS and HTTP write it
        tls=_tls_of(configuration) if parts.scheme == "https" else None,
        name=getattr(configuration, "tls_server_name", None),
        proxy=_proxy_of(configuration, server),
    )


def _tls_of(configuration: Configuration) -> ssl.SSLContext:
    authorities = getattr(configuration, "ca_cert_data", None)
    tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=authorities)
    # Python 3.13 and later refuse certificates of many clusters (no key identifier), which kubectl takes.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.assert_hostname is False or not configuration.verify_ssl:
        tls.check_hostname = False
    if not configuration.verify_ssl:
        tls.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    tls.set_alpn_protocols(["http/1.1"])
    return tls


def _proxy_of(configuration: Configuration, server: str) -> Proxy | None:
    given = configuration.proxy
    if not given or should_bypass_proxies(server, configuration.no_proxy or ""):
        return None
    parts = urlsplit(given)
    if parts.scheme != "http" or not parts.hostname:
        shown = f"{parts.scheme}://{parts.hostname}"
        raise ConfigurationError(f"the proxy of the cluster is {shown!r}: only http:// and a host is supported")
    headers = dict(configuration.proxy_headers or {})
    if parts.username:
        word = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(word.encode()).decode()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Proxy(f"http://{host}:{parts.port or 3128}", headers)
