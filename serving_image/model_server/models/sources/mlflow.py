"""References into an MLflow server: registered models, logged models, and models of runs."""

import re
from typing import Any

from model_server.errors import LoadFailed
from model_server.models.mlflow_rest import MlflowClient
from model_server.models.source import Resolved, Source, scheme_of
from model_server.settings import VersionPolicy

_REGISTERED = re.compile(
    r"models:/+(?P<name>[^/@]+)(?:/(?P<version>[0-9]+|latest)|@(?P<alias>[^/@]+))?", re.ASCII
)
_LOGGED = re.compile(r"models:/+(?P<id>m-[0-9a-f]{32})")
_RUN = re.compile(r"runs:/+(?P<id>[0-9a-zA-Z]+)/(?P<path>[^/].*)")
_EXPECTED = (
    "expected models:/name/version, models:/name@alias, models:/name/latest, models:/name, models:/m-<id> "
    "or runs:/id/path"
)
_PAGE = "200"
_READY = "READY"

_known: dict[tuple[str, str, str], str] = {}
"""(tracking URI, name, version) -> location, which never changes: a look at an alias is one small request."""


class MlflowSource(Source):
    """The tracking server and its model registry."""

    def resolve(self, reference: str, policy: VersionPolicy | None) -> tuple[Resolved, ...]:
        """See Source.resolve."""
        client = MlflowClient(self.registry)
        if run := _RUN.fullmatch(reference):
            return (_of_run(client, reference, run["id"], run["path"].strip("/")),)
        if logged := _LOGGED.fullmatch(reference):
            return (_of_logged_model(client, reference, logged["id"]),)
        match = _REGISTERED.fullmatch(reference)
        if match is None:
            raise LoadFailed(f"{reference}: {_EXPECTED}")
        name, version, alias = match["name"], match["version"], match["alias"]
        if policy is not None and (version or alias):
            raise LoadFailed(
                f"{reference}: names its version itself; leave out versions, or write models:/{name}"
            )
        if alias or (policy and policy.alias):
            return (_by_alias(client, name, alias or str(policy and policy.alias)),)
        if version not in (None, "latest"):
            return (_version(client, name, version),)
        if policy and policy.specific:
            return tuple(_version(client, name, wanted) for wanted in policy.specific)
        return _latest(client, name, (policy and policy.latest) or 1)


def names_one_version(reference: str) -> bool:
    """Whether the reference can only ever mean one version."""
    match = _REGISTERED.fullmatch(reference)
    return bool(_LOGGED.fullmatch(reference) or (match and match["version"] not in (None, "latest")))


def name_of(reference: str) -> str | None:
    """The registered model that a reference is about."""
    match = None if _LOGGED.fullmatch(reference) else _REGISTERED.fullmatch(reference)
    return match["name"] if match else None


def _by_alias(client: MlflowClient, name: str, alias: str) -> Resolved:
    found = client.call("registered-models/alias", name=name, alias=alias)
    return _resolved(client, found["model_version"])


def _version(client: MlflowClient, name: str, version: str) -> Resolved:
    found = client.call("model-versions/get", name=name, version=version)
    return _resolved(client, found["model_version"])


def _latest(client: MlflowClient, name: str, count: int) -> tuple[Resolved, ...]:
    quote = '"' if "'" in name else "'"
    found = client.call(
        "model-versions/search",
        filter=f"name={quote}{name}{quote}",
        order_by="version_number DESC",
        max_results=_PAGE,
    )
    ready = [v for v in found.get("model_versions", []) if v.get("status", _READY) == _READY]
    if not ready:
        raise LoadFailed(f"models:/{name}: the registry has no ready version of this model")
    ready.sort(key=lambda version: int(version["version"]), reverse=True)
    return tuple(_resolved(client, version) for version in ready[:count])


def _resolved(client: MlflowClient, found: dict[str, Any]) -> Resolved:
    """A model version as the registry describes it."""
    name, version = str(found["name"]), str(found["version"])
    uri = f"models:/{name}/{version}"
    status = found.get("status", _READY)
    if status != _READY:
        raise LoadFailed(f"{uri}: the registry says {status}: {found.get('status_message') or 'not ready'}")
    tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
    sha256 = str(tags.get("sha256", "")).removeprefix("sha256:").lower()
    key = (client.uri, name, version)
    location = _known.get(key)
    if location is None:
        answer = client.call("model-versions/get-download-uri", name=name, version=version)
        location = _known[key] = _storage(client, str(answer["artifact_uri"]))
    return Resolved(version, location, uri, sha256=sha256)


def _storage(client: MlflowClient, uri: str) -> str:
    """Follow a version that was registered from a logged model or a run to where its files are."""
    if logged := _LOGGED.fullmatch(uri):
        return _of_logged_model(client, uri, logged["id"]).location
    if run := _RUN.fullmatch(uri):
        return _of_run(client, uri, run["id"], run["path"].strip("/")).location
    if scheme_of(uri) in ("models", "runs"):
        raise LoadFailed(f"{uri}: {_EXPECTED}")
    return uri


def _of_logged_model(client: MlflowClient, reference: str, model_id: str) -> Resolved:
    info = client.call(f"logged-models/{model_id}")["model"]["info"]
    return Resolved(version="", location=str(info["artifact_uri"]), uri=reference)


def _of_run(client: MlflowClient, reference: str, run_id: str, path: str) -> Resolved:
    """A model that the run logged under this name (MLflow 3), else a folder of the run's artifacts."""
    run = client.call("runs/get", run_id=run_id)["run"]
    for output in (run.get("outputs") or {}).get("model_outputs", []):
        info = client.call(f"logged-models/{output['model_id']}")["model"]["info"]
        if info.get("name") == path:
            return Resolved(version="", location=str(info["artifact_uri"]), uri=reference)
    return Resolved(
        version="", location=f"{str(run['info']['artifact_uri']).rstrip('/')}/{path}", uri=reference
    )
