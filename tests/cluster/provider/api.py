"""The API server over HTTP: connections that are kept, discovery that is asked for once, retries, watches."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import urllib3

from .errors import ApiError, Cancelled, NoSuchKind, Unreachable
from .kubeconfig import Cluster

CONNECT_SECONDS = 5
# How long an API server may be away: at first contact, a wrong address must be told within seconds; one that
# has answered before is probably being restarted.
FIRST_CONTACT_SECONDS = 4
AWAY_SECONDS = 45
# For so long after it was found unreachable nobody asks again: a program has thousands of objects.
GIVEN_UP_SECONDS = 15
# Asked to come back later, or struck while its own parts restart.
BUSY = {429, 502, 503, 504}
APPLY = "application/apply-patch+yaml"  # JSON is YAML


@dataclass(frozen=True)
class Resource:
    """A kind as the API server serves it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    custom: bool
    """Whether a CustomResourceDefinition may define it."""

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Where its objects are: all of them, or one."""
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        where = f"/namespaces/{quote(namespace)}" if self.namespaced and namespace else ""
        return f"{root}{where}/{self.plural}" + (f"/{quote(name, safe=':')}" if name else "")


class Answer(NamedTuple):
    """An object, and what the API server warns of: deprecated versions, insecure pods."""

    body: dict[str, Any]
    warnings: list[str]


class Api:
    """One cluster, for as many threads as there are. `cancelled` ends every wait."""

    def __init__(self, cluster: Cluster, cancelled: threading.Event) -> None:
        self.cluster = cluster
        self.cancelled = cancelled
        options: dict[str, Any] = {
            "maxsize": 256,
            "retries": False,
            "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=60),
        }
        if cluster.tls:
            options["ssl_context"] = cluster.tls
            if cluster.tls_server_name:
                options |= {
                    "server_hostname": cluster.tls_server_name,
                    "assert_hostname": cluster.tls_server_name,
                }
            if not cluster.tls.check_hostname:
                options["assert_hostname"] = False
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._pool = (
            urllib3.ProxyManager(cluster.proxy, **options)
            if cluster.proxy
            else urllib3.PoolManager(**options)
        )
        self._seen = False
        self._given_up: tuple[float, Unreachable] | None = None
        self._kinds: dict[str, dict[str, Resource]] = {}
        self._discovering = threading.Lock()

    # Requests

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What is at a path. Raises `ApiError`, with code 404 where there is nothing."""
        return self.request("GET", path, query).body

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content: str = "application/json",
    ) -> Answer:
        """One request, asked again where the API server is briefly away.

        Raises `ApiError` for a refusal, `Unreachable` for no answer, `Cancelled`.
        """
        if self._given_up and time.monotonic() - self._given_up[0] < GIVEN_UP_SECONDS:
            raise self._given_up[1]
        sent = None if body is None else json.dumps(body).encode()
        deadline = time.monotonic() + (AWAY_SECONDS if self._seen else FIRST_CONTACT_SECONDS)
        pause = 0.2
        while True:
            if self.cancelled.is_set():
                raise Cancelled("cancelled")
            try:
                answer = self._send(method, path, query, sent, content)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                trouble: Exception = self._unreachable(error)
            else:
                self._seen, self._given_up = True, None
                data = (
                    json.loads(answer.data) if answer.data[:1] == b"{" else {"message": answer.data.decode()}
                )
                if answer.status < 400:
                    return Answer(data, _warnings(answer))
                trouble = self._refusal(answer.status, data)
                if answer.status not in BUSY and "etcdserver: " not in str(trouble):
                    raise trouble
                pause = max(pause, min(float(answer.headers.get("Retry-After") or 0), 5))
            if time.monotonic() + pause > deadline or _hopeless(trouble):
                if isinstance(trouble, Unreachable):
                    self._given_up = (time.monotonic(), trouble)
                raise trouble
            self.pause(pause)
            pause = min(pause * 2, 3)

    def pause(self, seconds: float) -> None:
        """Wait; raises `Cancelled` as soon as that is asked for."""
        if self.cancelled.wait(seconds):
            raise Cancelled("cancelled")

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: bytes | None,
        content: str,
        **options: Any,
    ) -> urllib3.BaseHTTPResponse:
        url = self.cluster.server + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", **self.cluster.headers()}
        if body is not None:
            headers["Content-Type"] = content
        return self._pool.request(method, url, body=body, headers=headers, **options)

    def _unreachable(self, error: Exception) -> Unreachable:
        reason = getattr(error, "reason", None) or error
        text = str(reason).partition("): ")[2] or str(reason)
        return Unreachable(f"no answer from {self.cluster.server} ({self.cluster.source}): {text}")

    def _refusal(self, code: int, body: Mapping[str, Any]) -> ApiError:
        error = ApiError(code, body)
        if code == 401:
            error = ApiError(
                code,
                {
                    **body,
                    "message": f"{self.cluster.server} does not accept the credentials of "
                    f"{self.cluster.source}",
                },
            )
        return error

    # Discovery

    def resource(self, api_version: str, kind: str) -> Resource:
        """How a kind is served. Raises `NoSuchKind`."""
        found = self._served(api_version, fresh=False).get(kind)
        if found is None:
            raise NoSuchKind(api_version, kind)
        return found

    def resource_soon(self, api_version: str, kind: str, seconds: float) -> Resource:
        """The same, waiting a little: a definition that was just made takes a moment to be served."""
        deadline = time.monotonic() + seconds
        pause = 0.2
        while True:
            found = self._served(api_version, fresh=pause > 0.2).get(kind)
            if found is not None:
                return found
            if time.monotonic() + pause > deadline:
                raise NoSuchKind(api_version, kind)
            self.pause(pause)
            pause = min(pause * 2, 2)

    def forget(self, group: str) -> None:
        """Ask again which kinds a group has, when next one of them is needed."""
        with self._discovering:
            for api_version in [known for known in self._kinds if known.partition("/")[0] == group]:
                del self._kinds[api_version]

    def _served(self, api_version: str, *, fresh: bool) -> dict[str, Resource]:
        with self._discovering:
            if api_version in self._kinds and not (fresh or not self._kinds[api_version]):
                return self._kinds[api_version]
            path = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
            try:
                listed = self.get(path).get("resources") or []
            except ApiError as error:
                if error.code != 404:
                    raise
                listed = []
            group = api_version.rpartition("/")[0]
            self._kinds[api_version] = {
                entry["kind"]: Resource(
                    api_version=api_version,
                    kind=entry["kind"],
                    plural=entry["name"],
                    namespaced=entry["namespaced"],
                    custom=may_be_custom(group),
                )
                for entry in listed
                if "/" not in entry["name"]
            }
            return self._kinds[api_version]

    # Watches

    def watch(
        self, path: str, query: Mapping[str, Any], seconds: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Changes as they come, as pairs of type and object, for so many seconds.

        Ends early where the API server ends it; raises only `Cancelled`: who watches reads again anyway.
        """
        query = {**query, "watch": "1", "timeoutSeconds": seconds, "allowWatchBookmarks": "false"}
        answer = None
        try:
            answer = self._send(
                "GET", path, query, None, "", preload_content=False, timeout=urllib3.Timeout(5, seconds + 5)
            )
            if answer.status >= 400:
                self.pause(0.2)
                return
            rest = b""
            for chunk in answer.stream(amt=None):
                if self.cancelled.is_set():
                    raise Cancelled("cancelled")
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    yield event["type"], event["object"]
            answer.release_conn()
            answer = None
        except (urllib3.exceptions.HTTPError, OSError):
            self.pause(0.5)
        finally:
            if answer is not None:
                answer.close()


def may_be_custom(group: str) -> bool:
    """Whether a group's kinds may come from CustomResourceDefinitions.

    The API server's own groups are plain words, or end in `.k8s.io`, as those of other projects do.
    """
    own = {"rbac.authorization.k8s.io", "flowcontrol.apiserver.k8s.io", "internal.apiserver.k8s.io"}
    plain = "." not in group or (group.endswith(".k8s.io") and group.count(".") == 2)
    return not plain and group not in own


def _warnings(answer: urllib3.BaseHTTPResponse) -> list[str]:
    # 299 - "text"
    return [value.split('"')[1] for value in answer.headers.getlist("Warning") if value.count('"') >= 2]


def _hopeless(error: Exception) -> bool:
    """A name that does not resolve, or a certificate that does not fit, will not mend itself in seconds."""
    text = str(error)
    return "CERTIFICATE_VERIFY_FAILED" in text or "Name or service not known" in text
