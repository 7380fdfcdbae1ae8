"""Where a model can come from, as its address says."""

import re
from collections.abc import Iterator

from .base import near_miss

_REGISTERED = re.compile(r"models:/[^/@\s]+(/[1-9][0-9]*|@[^/@\s]+)")
_RUN = re.compile(r"runs:/[^/\s]+/\S+")
_SCHEMES = ("models:/", "runs:/", "s3://", "gs://", "http://", "https://", "file://")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def wrong_model(model: str) -> Iterator[str]:
    """What is wrong with a model's address; nothing where it may be right."""
    scheme = _SCHEME.match(model)
    if not model.strip():
        yield "is empty; name a model, e.g. models:/breast-cancer/1"
    elif model != model.strip() or any(ord(letter) < 32 for letter in model):
        yield f"{model!r} has blanks at its ends or control characters in it; write {' '.join(model.split())}"
    elif model.startswith("models:"):
        yield from _wrong_registered(model)
    elif model.startswith("runs:") and not _RUN.fullmatch(model):
        yield f"`{model}` does not say which file of which run; write runs:/RUN_ID/PATH"
    elif scheme and not model.startswith(_SCHEMES):
        yield _wrong_scheme(model, scheme[1])
    elif scheme and model in _SCHEMES:
        rest = {"http://": "HOST/PATH", "https://": "HOST/PATH", "file://": "/PATH"}.get(model, "BUCKET/PATH")
        yield f"`{model}` does not say which model; write {model}{rest}"


def _wrong_registered(model: str) -> Iterator[str]:
    if _REGISTERED.fullmatch(model):
        return
    name = re.sub(r"^models:/*", "", model).split("/")[0].split("@")[0] or "breast-cancer"
    mended = f"models:/{name}/1 or models:/{name}@champion"
    if model.endswith("@"):
        yield f"`{model}` has an empty alias; write {mended}"
    elif re.search(r"/[^/@]+$", model) and model.startswith("models:/") and model.count("/") == 2:
        version = model.rpartition("/")[2]
        yield f"`{version}` is not a model version, which is a whole number from 1; write {mended}"
    else:
        yield f"`{model}` does not say which version of a registered model; write {mended}"


def _wrong_scheme(model: str, scheme: str) -> str:
    known = {address.split(":")[0]: address for address in _SCHEMES}
    if scheme.lower() in known:
        rest = model.split(":", 1)[1].lstrip("/")
        return f"`{model}` is not written as such addresses are; write {known[scheme.lower()]}{rest}"
    hint = near_miss(scheme, known)
    return (
        f"`{scheme}:` is not an address that a model can be fetched from{hint}; known: {', '.join(_SCHEMES)}"
    )
