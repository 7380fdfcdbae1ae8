"""The API server, as far as a driver needs it: a few objects, and pods that are asked through it.

Objects are plain documents. The client library brings what would be hard to do right: kubeconfigs, the tokens
of pods and those of cloud logins.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from socket import socket
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import RolloutError

_TRIES = 5
_BUSY = (429, 500, 502, 503, 504)
_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_MERGE = "application/merge-patch+json"


class UnreachableError(Exception):
    """The API server does not answer, or not to this request."""


class ConflictError(Exception):
    """Somebody else was faster: the object is there already, or is another one by now."""


class Api:
    """One cluster: that of the pod, else the one that the kubeconfig names."""

    def __init__(self, context: str | None = None) -> None:
        """`context`: one of the kubeconfig, where it is not the present one.

        Raises:
            RolloutError: there is no cluster to ask, or nothing to ask it with.
        """
        try:
            from kubernetes import client, config
        except ImportError:
            raise RolloutError(
                "rollouts of a cluster need the package kubernetes; install it with "
                "`pip install 'serving-estate[rollout-kubernetes]'`"
            ) from None
        settings = client.Configuration()
        try:
            config.load_kube_config(context=context, client_configuration=settings)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            try:
                config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            except config.ConfigException:
                raise RolloutError(
                    f"no cluster to ask: {error}; set KUBECONFIG, or run it in a pod with a service account"
                ) from None
        self._settings: Any = settings
        self._pool = client.rest.RESTClientObject(settings).pool_manager

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """An object or a list; None where there is none.

        Raises:
            UnreachableError: it cannot be told.
        """
        try:
            return dict(json.loads(self._ask("GET", _with(path, query))))
        except LookupError:
            return None

    def text(self, path: str, timeout: float = 5) -> str:
        """What a pod answers to a GET through the API server.

        Raises:
            UnreachableError: it does not.
        """
        try:
            return self._ask("GET", path, timeout=timeout, tries=1).decode()
        except LookupError:
            raise UnreachableError(f"{path}: not found") from None

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object.

        Raises:
            ConflictError: there is one.
            UnreachableError: it may or may not have been made.
        """
        return dict(json.loads(self._ask("POST", path, body)))

    def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Write an object, if it still is of the version that `body` says.

        Raises:
            ConflictError: it is not.
            UnreachableError: it may or may not have been written.
        """
        return dict(json.loads(self._ask("PUT", path, body)))

    def merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Write some fields of an object, if it still is of the version that `body` says.

        Raises:
            ConflictError: it is not.
            UnreachableError: they may or may not have been written.
        """
        return dict(json.loads(self._ask("PATCH", path, body, kind=_MERGE)))

    def apply(self, path: str, body: Mapping[str, Any], manager: str) -> dict[str, Any]:
        """Write an object by server-side apply, whoever has its fields.

        Raises:
            ConflictError: it cannot be written so.
            UnreachableError: it may or may not have been written.
        """
        where = _with(path, {"fieldManager": manager, "force": "true"})
        return dict(json.loads(self._ask("PATCH", where, body, kind=_APPLY)))

    @contextmanager
    def port(self, namespace: str, pod: str, port: int) -> Iterator[socket]:
        """A connection to a port of a pod: for the pod it comes from itself, whatever its network allows.

        Raises:
            UnreachableError: the API server does not make one.
        """
        forward = self._forward(namespace, pod, port)
        try:
            yield forward.socket(port)
        finally:
            forward.close()

    def _forward(self, namespace: str, pod: str, port: int) -> Any:
        from kubernetes.client import ApiException
        from kubernetes.stream.ws_client import portforward_call

        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/portforward"
        for left in range(_TRIES - 1, -1, -1):
            # What `kubernetes.stream.portforward` calls; that needs the whole client, a second to import.
            try:
                return portforward_call(  # type: ignore[no-untyped-call]
                    self._settings,
                    "GET",
                    f"{self._settings.host}{path}",
                    headers=self._credentials(),
                    query_params=[("ports", str(port))],
                )
            except ApiException as error:
                reason, _, _ = str(error.reason).partition(" -+-+- ")  # headers and body of the answer follow
                if " 403 " in reason:
                    reason += ": it takes the rights to get and to create `pods/portforward`"
                elif left and " 404 " not in reason:
                    time.sleep(0.2 * 2 ** (_TRIES - 1 - left))
                    continue
                raise UnreachableError(f"port {port} of pod {namespace}/{pod}: {reason}") from None
        raise AssertionError("a last try ends otherwise")

    def _ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        timeout: float = 10,
        tries: int = _TRIES,
    ) -> bytes:
        sent = None if body is None else json.dumps(body).encode()
        # Written or not is not known after a fault: only what is read is asked for again.
        for left in range(tries - 1 if method == "GET" else 0, -1, -1):
            try:
                status, answer = self._once(method, path, sent, kind, timeout)
            except UnreachableError:
                if not left:
                    raise
            else:
                if status < 300:
                    return answer
                if status == 404:
                    raise LookupError(path)
                if status == 409:
                    raise ConflictError(path)
                if status not in _BUSY or not left:
                    raise UnreachableError(f"{method} {path}: {_said(status, answer)}")
            time.sleep(0.2 * 2 ** (tries - 1 - left))
        raise AssertionError("a last try ends otherwise")

    def _once(
        self, method: str, path: str, body: bytes | None, kind: str, timeout: float
    ) -> tuple[int, bytes]:
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json, text/plain, */*", "Content-Type": kind}
        headers |= self._credentials()
        url = f"{self._settings.host}{path}"
        try:
            answer = self._pool.request(
                method, url, body=body, headers=headers, timeout=timeout, retries=False
            )
            return int(answer.status), bytes(answer.data)
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"{method} {path}: {error}") from error

    def _credentials(self) -> dict[str, str]:
        """Asked for each time: tokens of pods and of cloud logins are renewed."""
        known = self._settings.auth_settings().values()
        return {one["key"]: one["value"] for one in known if one["in"] == "header" and one["value"]}


def pod_path(namespace: str, pod: str, port: int, path: str) -> str:
    """Where a pod's port is asked through the API server."""
    return f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}:{port}/proxy/{path}"


def _with(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _said(status: int, answer: bytes) -> str:
    """What the API server said, in its own words."""
    try:
        return f"{status}: {json.loads(answer)['message']}"
    except (TypeError, ValueError, KeyError):
        return f"{status}: {answer[:200].decode(errors='replace')}"
