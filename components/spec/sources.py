"""Where a model can come from, as its address says."""

import re
from collections.abc import Iterator

from .base import near_miss

_SCHEMES = ("models:/", "runs:/", "s3://", "gs://", "http://", "https://", "oci://", "file://")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")

# One pattern for the check and for editors: a registered model, a run's file, an address, or a path.
MODEL = re.compile(
    r"^(models:/[^/@\s]+(/[1-9][0-9]*|@[^/@\s]+)"
    r"|runs:/[^/\s]+/\S+"
    r"|(s3|gs|https?)://[^/\s]+(/.*\S)?"
    r"|oci://[^/\s]+/\S+"
    r"|file:///.*\S"
    r"|(?![A-Za-z][A-Za-z0-9+.-]*:)\S(.*\S)?)$"
)


def wrong_model(model: str) -> Iterator[str]:
    """What is wrong with a model's address; nothing where it may be right."""
    scheme = _SCHEME.match(model)
    if MODEL.fullmatch(model) and model.isprintable():
        return
    if not model.strip():
        yield "is empty; name a model, e.g. models:/breast-cancer/1"
    elif model != model.strip() or not model.isprintable():
        mended = " ".join("".join(c if c.isprintable() else " " for c in model).split())
        yield f"`{model}` has blanks at its ends or characters that do not print; write {mended}"
    elif model.startswith("models:"):
        yield _wrong_registered(model)
    elif model.startswith("runs:"):
        yield f"`{model}` does not say which file of which run; write runs:/RUN_ID/PATH"
    elif scheme and not model.startswith(_SCHEMES):
        yield _wrong_scheme(model, scheme[1])
    else:
        rest = {"http": "HOST/PATH", "https": "HOST/PATH", "file": "/PATH", "oci": "REGISTRY/IMAGE"}
        name = scheme[1] if scheme else "file"
        yield f"`{model}` does not say which model; write {name}://{rest.get(name, 'BUCKET/PATH')}"


def _wrong_registered(model: str) -> str:
    name = re.sub(r"^models:/*", "", model).split("/")[0].split("@")[0] or "breast-cancer"
    mended = f"models:/{name}/1 or models:/{name}@champion"
    version = re.fullmatch(r"models:/[^/@]+/([^/@]+)", model)
    if model.endswith("@"):
        return f"`{model}` has an empty alias; write {mended}"
    if version:
        return f"`{version[1]}` is not a model version, which is a whole number from 1; write {mended}"
    return f"`{model}` does not say which version of a registered model; write {mended}"


def _wrong_scheme(model: str, scheme: str) -> str:
    known = {address.split(":")[0]: address for address in _SCHEMES}
    if scheme.lower() in known:
        rest = model.split(":", 1)[1].lstrip("/")
        return f"`{model}` is not written as such addresses are; write {known[scheme.lower()]}{rest}"
    hint = near_miss(scheme, known)
    return (
        f"`{scheme}:` is not an address that a model can be fetched from{hint}; known: {', '.join(_SCHEMES)}"
    )
