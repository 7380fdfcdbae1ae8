"""Which cluster is meant, and how it is spoken to: kubeconfig files, as `kubectl` reads them."""

import base64
import os
import ssl
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from .errors import Unreachable

IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Cluster:
    """One API server, and who asks it."""

    server: str
    """Its URL, without a slash at the end."""
    namespace: str
    """Where objects go that name no namespace."""
    source: str
    """Where all this was found, for messages."""
    tls: ssl.SSLContext | None
    headers: Callable[[], dict[str, str]]
    """What says who asks; called for each request, since tokens expire."""
    tls_server_name: str | None = None
    proxy: str | None = None


def find(
    given: str | None = None,
    context: str | None = None,
    cluster: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Cluster:
    """The cluster that the settings name.

    `given` is the text of a kubeconfig, or a path to one; without it `KUBECONFIG` counts (several files are
    merged, the first one wins), then `~/.kube/config`, then the pod that this runs in.

    Raises `Unreachable` where there is none, or where it cannot be read.
    """
    if given and ("\n" in given or given.lstrip().startswith("{")):
        return _pick(
            _parsed(given, "the provider's kubeconfig"), "the provider's kubeconfig", context, cluster
        )
    paths = [given] if given else [path for path in environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    if not paths:
        home = Path(environ.get("HOME", "~"), ".kube", "config").expanduser()
        if not home.exists() and (IN_CLUSTER / "token").exists():
            return _pod(environ)
        paths = [str(home)]
    files = [Path(path).expanduser() for path in paths]
    merged: dict[str, Any] = {}
    found = []
    for file in files:
        try:
            text = file.read_text()
        except OSError as error:
            missing = f"{file}: {error.strerror}"
            continue
        found.append(str(file))
        _merge(merged, _absolute(_parsed(text, str(file)), file.parent))
    if not found:
        raise Unreachable(
            f"no kubeconfig: {missing}. Set the provider's `kubeconfig`, or KUBECONFIG, to a file that "
            "names a cluster"
        )
    return _pick(merged, os.pathsep.join(found), context, cluster)


def server_of(given: str | None, context: str | None = None, cluster: str | None = None) -> str | None:
    """The server that settings name, or `None` where none can be told: another server is another cluster."""
    with suppress(Unreachable):
        return find(given, context, cluster).server
    return None


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Unreachable(f"{source} is not YAML: {error}") from error
    if not isinstance(value, dict):
        raise Unreachable(f"{source} is not a kubeconfig: it holds {type(value).__name__}, not an object")
    return value


def _absolute(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    for entries, fields in (
        ("clusters", ("certificate-authority",)),
        ("users", ("client-certificate", "client-key", "tokenFile")),
    ):
        for entry in config.get(entries) or []:
            inner = entry.get(entries[:-1]) or {}
            for field in fields:
                if inner.get(field):
                    inner[field] = str(folder / inner[field])
    return config


def _merge(into: dict[str, Any], config: Mapping[str, Any]) -> None:
    if config.get("current-context"):
        into.setdefault("current-context", config["current-context"])
    for entries in ("clusters", "users", "contexts"):
        have = into.setdefault(entries, [])
        names = {entry["name"] for entry in have}
        have += [entry for entry in config.get(entries) or [] if entry.get("name") not in names]


def _named(config: Mapping[str, Any], entries: str, name: str, source: str) -> dict[str, Any]:
    for entry in config.get(entries) or []:
        if entry.get("name") == name:
            return dict(entry.get(entries[:-1]) or {})
    names = ", ".join(str(entry.get("name")) for entry in config.get(entries) or []) or "none"
    raise Unreachable(f"{source} has no {entries[:-1]} `{name}`; it has {names}")


def _pick(config: dict[str, Any], source: str, context: str | None, cluster: str | None) -> Cluster:
    context = context or config.get("current-context")
    if not context:
        raise Unreachable(f"{source} has no current-context: set one, or the provider's `context`")
    chosen = _named(config, "contexts", context, source)
    where = _named(config, "clusters", cluster or chosen.get("cluster", ""), source)
    user = _named(config, "users", chosen["user"], source) if chosen.get("user") else {}
    if not where.get("server"):
        raise Unreachable(f"{source}: the cluster of context `{context}` has no server")
    server = str(where["server"]).rstrip("/")
    if "exec" in user or "auth-provider" in user:
        certificate, key, headers = _by_library(config, context)
    else:
        certificate = _bytes(user, "client-certificate", source)
        key = _bytes(user, "client-key", source)
        headers = _headers(user)
    return Cluster(
        server=server,
        namespace=str(chosen.get("namespace") or "default"),
        source=f"context `{context}` of {source}",
        tls=_tls(where, certificate, key, source) if urlsplit(server).scheme == "https" else None,
        headers=headers,
        tls_server_name=where.get("tls-server-name"),
        proxy=where.get("proxy-url"),
    )


def _bytes(entry: Mapping[str, Any], field: str, source: str) -> bytes | None:
    if entry.get(f"{field}-data"):
        return base64.b64decode(entry[f"{field}-data"])
    if entry.get(field):
        try:
            return Path(entry[field]).read_bytes()
        except OSError as error:
            raise Unreachable(f"{source} names {field} {entry[field]}: {error.strerror}") from error
    return None


def _headers(user: Mapping[str, Any]) -> Callable[[], dict[str, str]]:
    if user.get("tokenFile"):
        file = Path(user["tokenFile"])
        return lambda: {"Authorization": f"Bearer {file.read_text().strip()}"}
    if user.get("token"):
        return lambda: {"Authorization": f"Bearer {user['token']}"}
    if user.get("username"):
        pair = base64.b64encode(f"{user['username']}:{user.get('password', '')}".encode()).decode()
        return lambda: {"Authorization": f"Basic {pair}"}
    return dict


def _tls(
    where: Mapping[str, Any], certificate: bytes | None, key: bytes | None, source: str
) -> ssl.SSLContext:
    authority = _bytes(where, "certificate-authority", source)
    try:
        context = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if where.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate and key:
            # The standard library reads certificates from files only.
            with tempfile.NamedTemporaryFile() as one, tempfile.NamedTemporaryFile() as other:
                Path(one.name).write_bytes(certificate)
                Path(other.name).write_bytes(key)
                context.load_cert_chain(one.name, other.name)
    except (ssl.SSLError, ValueError) as error:
        raise Unreachable(f"{source}: its certificates cannot be read: {error}") from error
    return context


def _by_library(
    config: dict[str, Any], context: str
) -> tuple[bytes | None, bytes | None, Callable[[], dict[str, str]]]:
    """Credentials from a command or a cloud's plugin. The library that knows them all loads slowly."""
    from kubernetes import client
    from kubernetes.config import kube_config

    settings = client.Configuration()
    try:
        kube_config.load_kube_config_from_dict(  # type: ignore[no-untyped-call]
            config, context=context, client_configuration=settings, persist_config=False
        )
    except Exception as error:
        raise Unreachable(f"the credentials of context `{context}` cannot be had: {error}") from error

    def headers() -> dict[str, str]:
        if settings.refresh_api_key_hook:
            settings.refresh_api_key_hook(settings)
        value = settings.api_key.get("BearerToken") or settings.api_key.get("authorization")
        return {"Authorization": value} if value else {}

    files = [Path(file).read_bytes() if file else None for file in (settings.cert_file, settings.key_file)]
    if not headers() and None in files:  # the library writes why into a log that nobody sees
        raise Unreachable(
            f"the credentials of context `{context}` cannot be had: its command or plugin gave none. Run "
            "`kubectl get namespaces` to see why"
        )
    return files[0], files[1], headers


def _pod(environ: Mapping[str, str]) -> Cluster:
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    authority = {"certificate-authority": str(IN_CLUSTER / "ca.crt")}
    return Cluster(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=(IN_CLUSTER / "namespace").read_text().strip(),
        source="the pod's service account",
        tls=_tls(authority, None, None, "the pod's service account"),
        headers=_headers({"tokenFile": str(IN_CLUSTER / "token")}),
    )
