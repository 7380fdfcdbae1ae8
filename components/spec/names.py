"""The names of endpoints and variants: they become names of resources, processes, pods and hosts."""

import re
from unicodedata import combining, normalize

# A resource is named `endpoint-variant`, and Kubernetes takes 63 characters.
ENDPOINT = re.compile(r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")
VARIANT = re.compile(r"^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$")

_LONGEST = {ENDPOINT: 40, VARIANT: 20}
_EXAMPLE = {ENDPOINT: "breast-cancer", VARIANT: "blue"}


def wrong_name(name: str, kind: re.Pattern[str]) -> str:
    """Why `name` cannot be a name of this kind (`ENDPOINT`, `VARIANT`), and one that could."""
    longest = _LONGEST[kind]
    rule = f"use up to {longest} lower-case letters, digits and `-`, a letter first"
    letters = "".join(letter for letter in normalize("NFKD", name) if not combining(letter))
    mended = re.sub(r"[^a-z0-9]+", "-", letters.lower()).strip("-")
    if mended and not mended[0].isalpha():
        mended = f"v{mended}"
    mended = mended[:longest].strip("-") or _EXAMPLE[kind]
    if not name.strip():
        return f"the name is empty; {rule}, e.g. `{mended}`"
    if len(name) > longest:
        return f"the name has {len(name)} characters; {rule}, e.g. `{mended}`"
    return f"`{name}` is not a valid name; {rule}, e.g. `{mended}`"
