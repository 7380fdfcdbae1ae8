"""The cluster's programs, built from their pinned Go modules and kept in the cache for all checkouts.

Each module is a folder in `modules/` with a `go.mod` and a `go.sum` of its own: one folder for all would
force one version of every library that they share.
"""

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from toolchain.cache import Progress, ToolError, locked, root, staged
from toolchain.source import find_go, go_build, tag

from .commands import run
from .layout import HERE

MODULES = HERE / "modules"
_REQUIRED = re.compile(r"^require (\S+) (v\S+)$", re.MULTILINE)
FREE_MIB = 6000  # the modules take 3 GB, what is compiled of them about as much


@dataclass(frozen=True)
class Module:
    """A pinned Go module, and which of its programs are built."""

    name: str
    """Its folder in `modules/`."""
    programs: dict[str, str]
    """Package by the name that its program gets here."""
    minutes: float
    """What a first build takes on two cores, for those who wait for it."""
    linker: str = ""
    """Linker flags; `@version@` is the pinned version."""
    files: tuple[str, ...] = ()
    """Patterns of files of the module that are kept beside the programs, in `files/`."""


_COMPONENT_BASE = "k8s.io/component-base/version"
MODULE_LIST = (
    Module("pause", {"pause": "."}, 0.1),
    Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}, 1),
    Module(
        "kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-proxy",
                "kube-scheduler",
                "kubectl",
                "kubelet",
            )
        },
        6,
        # Clients look at it, and refuse v0.0.0.
        f"-X {_COMPONENT_BASE}.gitVersion=@version@ -X {_COMPONENT_BASE}.gitMajor=@major@ "
        f"-X {_COMPONENT_BASE}.gitMinor=@minor@",
    ),
    Module("coredns", {"coredns": "github.com/coredns/coredns"}, 2),
    Module("metrics-server", {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"}, 1),
    Module(
        "envoy-gateway",
        {"envoy-gateway": "github.com/envoyproxy/gateway/cmd/envoy-gateway"},
        5,
        files=(
            "charts/gateway-crds-helm/templates/experimental-gatewayapi-crds.yaml",
            "charts/gateway-crds-helm/templates/generated/*.yaml",
        ),
    ),
    Module("local-path", {"local-path-provisioner": "github.com/rancher/local-path-provisioner"}, 1),
    Module(
        "kwok",
        {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        1.5,
        files=(
            "kustomize/stage/node/fast/node-initialize.yaml",
            "kustomize/stage/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
            "kustomize/stage/pod/fast/pod-*.yaml",
        ),
    ),
)

# No part of a cluster, but of what is tried on one: `extra` builds it.
EXTRAS = (
    Module(
        "flagger",
        {"flagger": "github.com/fluxcd/flagger/cmd/flagger"},
        2,
        files=("artifacts/flagger/crd.yaml",),
    ),
)


def extra(name: str) -> Path:
    """Build a program that no cluster needs, if the cache lacks it; return it. Its files are beside it."""
    module = next(module for module in EXTRAS if name in module.programs)
    if not folder(module).exists():
        with locked():
            if not folder(module).exists():
                _build(module)
    return folder(module) / name


def build() -> dict[str, Path]:
    """Build what the cache lacks; return every program's path by its name."""
    missing = [module for module in MODULE_LIST if not folder(module).exists()]
    if missing:
        with locked():
            for module in missing:
                if not folder(module).exists():  # made by the process that we waited for
                    _build(module)
    return {name: folder(module) / name for module in MODULE_LIST for name in module.programs}


def program(name: str) -> Path:
    """Return where a program of a cluster is once it is built."""
    return folder(next(module for module in MODULE_LIST if name in module.programs)) / name


def folder(module: Module) -> Path:
    """Return where a module's programs are kept: under a name that changes with what they are built from."""
    digest = hashlib.sha256(repr((module.programs, module.linker, module.files)).encode())
    for file in sorted((MODULES / module.name).iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    return root() / f"cluster-{module.name}-{tag()}-{digest.hexdigest()[:12]}"


def version(module: str) -> str:
    """Return the pinned version of what a folder of `modules/` is for: its first direct requirement."""
    text = (MODULES / module / "go.mod").read_text()
    found = _REQUIRED.search(text)
    return found[2] if found else ""


def _build(module: Module) -> None:
    home = MODULES / module.name
    with staged(folder(module)) as unfinished:
        free = shutil.disk_usage(unfinished).free >> 20
        if free < FREE_MIB:
            raise ToolError(
                f"building the cluster's parts needs {FREE_MIB} MiB; {root()} has {free}: free some, or move "
                "the caches with XDG_CACHE_HOME and GOPATH"
            )
        go = find_go(home)
        pinned = version(module.name)
        major, minor = ([*pinned.lstrip("v").split("."), "", ""])[:2]
        linker = module.linker.replace("@version@", pinned).replace("@major@", major)
        title = f"building {module.name} {pinned}".rstrip() + f" (some {module.minutes:g} min on two cores)"
        with Progress(title) as progress:
            for name, package in module.programs.items():
                go_build(go, home, [package], unfinished / name, linker.replace("@minor@", minor), progress)
            if module.files:
                _keep_files(go, module, unfinished / "files")


def _keep_files(go: str, module: Module, target: Path) -> None:
    """Copy files of the module: its sources may leave Go's own cache some day."""
    listed = run(
        "env", "-C", MODULES / module.name, go, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", main(module)
    )
    target.mkdir()
    for pattern in module.files:
        for file in sorted(Path(listed.strip()).glob(pattern)):
            (target / file.name).write_bytes(file.read_bytes())


def main(module: Module) -> str:
    """Return the path of the pinned module itself: the first that its go.mod requires."""
    found = _REQUIRED.search((MODULES / module.name / "go.mod").read_text())
    return found[1] if found else ""
