"""Read the API server's address and this process's credentials: the one module that imports `kubernetes`.

The client library knows kubeconfigs, credential plugins and service accounts. It sends no request: its models would
cost more CPU time than everything else that a controller does.
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
# Seconds between two checks for a new token; the library reads a rotated file once a minute
CHECK_EVERY = 20.0
# Seconds between two times that everything is read again after a 401
RENEW_EVERY = 5.0
# Seconds that a credential plugin gets
PLUGIN = 60.0


class ApiConfig:
    """The address of an API server and the credentials for it; `load` fills in the client library's configuration.

    Raises:
        ConfigurationError: it cannot be read, or asks for what is not supported.
    """

    def __init__(self, load: Callable[[Configuration], None], *, namespace: str, in_cluster: bool) -> None:
        self.namespace = namespace
        self.in_cluster = in_cluster
        self._load = load
        self._lock = asyncio.Lock()
        self._header = ""
        self._checked = 0.0
        self._renewed = float("-inf")
        self._read()

    async def authorization(self) -> str:
        """Return the value of the Authorization header, empty for client certificates and for no credentials."""
        if time.monotonic() - self._checked < CHECK_EVERY:
            return self._header
        async with self._lock:
            if time.monotonic() - self._checked >= CHECK_EVERY:
                self._checked = time.monotonic()
                await self._in_thread(self._read_token)
        return self._header

    async def renew(self, refused: str) -> str:
        """Read everything again because the API server has refused this header, and return the next one to try."""
        async with self._lock:
            if self._header == refused and time.monotonic() - self._renewed >= RENEW_EVERY:
                self._renewed = time.monotonic()
                await self._in_thread(self._read)
        return self._header

    async def _in_thread(self, work: Callable[[], None]) -> None:
        """Run blocking work in a thread and ignore its errors."""
        # A plugin is a program that may take its time, and a file may be missing while it is replaced.
        try:
            async with asyncio.timeout(PLUGIN):
                await asyncio.to_thread(work)
        except (ConfigurationError, ConfigException, OSError, ValueError, yaml.YAMLError):
            return  # the known credentials may still be valid, and if not, the API server answers 401

    def _read(self) -> None:
        configuration = type.__call__(Configuration)  # not a copy of the default that others may have set
        try:
            self._load(configuration)
            self.endpoint = _read_endpoint(configuration)
        except (ConfigException, OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigurationError(f"the configuration of the cluster cannot be used: {error}") from error
        self._configuration = configuration
        self._read_token()
        self._checked = time.monotonic()

    def _read_token(self) -> None:
        setting = self._configuration.auth_settings().get("BearerToken")
        self._header = " ".join(str(setting["value"] or "").split()) if setting is not None else ""


def load_api_config(
    context: str | None, environ: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT
) -> ApiConfig:
    """Return the configuration of this pod's service account, else of the kubeconfig; a `context` asks for the latter.

    Raises:
        ConfigurationError: there is neither, the context does not exist, or the file cannot be read.
    """
    if context is None and environ.get("KUBERNETES_SERVICE_HOST") and (folder / "token").is_file():
        loader = InClusterConfigLoader(str(folder / "token"), str(folder / "ca.crt"), environ=environ)
        own = folder / "namespace"
        namespace = own.read_text().strip() if own.is_file() else "default"
        return ApiConfig(loader.load_and_set, namespace=namespace, in_cluster=True)
    files = environ.get("KUBECONFIG") or "~/.kube/config"
    wanted = _find_context(files, context)

    def load(configuration: Configuration) -> None:
        load_kube_config(config_file=files, context=wanted["name"], client_configuration=configuration)
        clusters = KubeConfigMerger(files).config["clusters"]
        cluster = clusters.get_with_name(wanted["context"]["cluster"])["cluster"]
        if proxy := cluster.safe_get("proxy-url"):  # which the library itself reads since 37
            configuration.proxy = proxy

    namespace = wanted["context"].get("namespace") or "default"
    return ApiConfig(load, namespace=namespace, in_cluster=False)


def _find_context(files: str, context: str | None) -> Any:
    """Return the named context, or the current one."""
    try:
        contexts, current = list_kube_config_contexts(files)
    except (ConfigException, OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"no cluster is configured: this process does not run in a pod, and the kubeconfig {files!r} cannot be "
            f"used: {error}",
            hint="set KUBECONFIG, or run in a pod that has a service account",
        ) from error
    if context is None:
        return current
    found = [known for known in contexts if known["name"] == context]
    if not found:
        names = ", ".join(sorted(known["name"] for known in contexts))
        raise ConfigurationError(f"invalid context={context!r}: expected one of the kubeconfig {files!r}: {names}")
    return found[0]


def _read_endpoint(configuration: Configuration) -> Endpoint:
    server = configuration.host.rstrip("/")
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"invalid server={server!r} of the cluster: expected http:// or https:// and a host")
    parts.hostname.encode("idna")  # a ValueError where no such name can be
    _ = parts.port  # a ValueError where it is no number
    return Endpoint(
        server=str(URL(server)).rstrip("/"),  # a name beyond ASCII as DNS and HTTP write it
        tls=_create_tls_context(configuration) if parts.scheme == "https" else None,
        name=getattr(configuration, "tls_server_name", None),
        proxy=_read_proxy(configuration, server),
    )


def _create_tls_context(configuration: Configuration) -> ssl.SSLContext:
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


def _read_proxy(configuration: Configuration, server: str) -> Proxy | None:
    given = configuration.proxy
    if not given or should_bypass_proxies(server, configuration.no_proxy or ""):
        return None
    parts = urlsplit(given)
    if parts.scheme != "http" or not parts.hostname:
        shown = f"{parts.scheme}://{parts.hostname}"
        raise ConfigurationError(f"invalid proxy={shown!r} of the cluster: expected http:// and a host")
    headers = dict(configuration.proxy_headers or {})
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Proxy(f"http://{host}:{parts.port or 3128}", headers)
