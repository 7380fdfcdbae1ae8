"""The Python language host: what the Pulumi engine asks when it meets `runtime: python`.

Only for an engine that was built from source, as the official release brings its own. It answers the engine's
calls and leaves the running to workers (see worker.py), one for each virtual environment.
"""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

LIB = Path(__file__).resolve().parent
SITE = LIB / "site-packages"


def use_protocol_only() -> None:
    """Make `pulumi.runtime.proto` importable without the SDK around it, which takes most of a second."""
    sys.path[0] = str(SITE)
    for name in ("pulumi", "pulumi.runtime", "pulumi.runtime.proto"):
        module = ModuleType(name)
        module.__path__ = [str(SITE.joinpath(*name.split(".")))]
        sys.modules[name] = module


class Job:
    """One child of a worker: where its output comes from, who it is, how it ended."""

    def __init__(self, python: str, stdout: int | None, stderr: int | None, status: int) -> None:
        """Take the reading ends of its pipes."""
        self._python = python
        self.stdout = stdout
        self.stderr = stderr
        self._status = os.fdopen(status)
        self.pid = int(self._status.readline() or 0)

    def wait(self) -> int:
        """Return the exit code; a job whose worker died counts as killed."""
        code = self._status.readline()
        self._status.close()
        self.pid = 0
        if not code:
            print(f"the Python that ran this was killed, or does not start: {self._python}", file=sys.stderr)
        return int(code or 128 + signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGINT)


class Worker:
    """A warm interpreter and the socket it takes jobs from."""

    def __init__(self, python: str, environ: dict[str, str]) -> None:
        """Start it; it is warm by the time that the engine has work for it."""
        self._control, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self.python = python
        self.used = False
        self.process = subprocess.Popen(
            [python, str(LIB / "worker.py"), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            # Not ours: the engine waits until nobody holds our output any more, and an import takes long.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,  # the engine's SIGINT is for the host; we end when our socket closes
        )
        theirs.close()

    def start(self, job: dict[str, Any], *, capture: bool) -> Job:
        """Fork a child for the job; its output is ours unless captured."""
        self.used = True
        out_read, out = os.pipe() if capture else (None, os.dup(1))
        err_read, err = os.pipe() if capture else (None, os.dup(2))
        status_read, status = os.pipe()
        body = json.dumps(job).encode()
        try:
            with self._lock:
                socket.send_fds(self._control, [struct.pack("!I", len(body))], [out, err, status])
                self._control.sendall(body)
        finally:
            for fd in (out, err, status):
                os.close(fd)
        return Job(self.python, out_read, err_read, status_read)


class Environments:
    """The workers in use, by virtual environment."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}

    def worker(self, venv: Path | None) -> Worker:
        """Return the worker of an environment; it starts with its first use."""
        with self._lock:
            key = str(venv or "")
            if key not in self._workers or self._workers[key].process.poll() is not None:
                environ = activated(venv)
                python = str(venv / "bin" / "python") if venv else environ.get("PULUMI_PYTHON_CMD", "python3")
                self._workers[key] = Worker(python, environ)
            return self._workers[key]

    def leave(self) -> None:
        """End now: the engine often asks only for our version, and a worker's import is then a waste."""
        for worker in self._workers.values():
            if not worker.used:
                worker.process.kill()
        os._exit(0)


def activated(venv: Path | None) -> dict[str, str]:
    """Return the environment variables that `activate` would leave."""
    environ = dict(os.environ)
    if venv:
        environ["PATH"] = os.pathsep.join([str(venv / "bin"), environ.get("PATH", os.defpath)])
        environ["VIRTUAL_ENV"] = str(venv)
        environ.pop("PYTHONHOME", None)
    return environ


class WrongOptionsError(Exception):
    """`runtime.options` of a Pulumi file cannot be used; the message is for its author."""


def virtualenv(info: Any, *, default: str = "", must_exist: bool = True) -> Path | None:
    """Return the virtual environment that the options name, relative to the project's root."""
    options = dict(info.options)
    tool = options.get("toolchain") or "pip"
    if tool == "poetry":
        raise WrongOptionsError(
            "runtime option `toolchain: poetry` needs the official Pulumi release; "
            "with this engine name the environment: `virtualenv: .venv`"
        )
    named = options.get("virtualenv") or (".venv" if tool == "uv" else default)
    if not isinstance(named, str):
        raise WrongOptionsError(f"runtime option `virtualenv` must be a path, not {named!r}")
    if not named:
        return None
    venv = Path(os.path.normpath(Path(info.root_directory) / named))
    if must_exist and not (venv / "bin" / "python").exists():
        found = "is not a virtual environment" if venv.exists() else "does not exist"
        raise WrongOptionsError(
            f"runtime option `virtualenv` is {named!r}, but {venv} {found}; run `pulumi install`, "
            f"or make it with `python3 -m venv {venv}` and install the program's requirements into it"
        )
    return venv


def guess_virtualenv(folder: Path) -> Path | None:
    """Guess what the engine will ask for, from the project file above the working directory."""
    for parent in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            text = (parent / "Pulumi.yaml").read_text()
            found = re.search(r"""virtualenv:\s*["']?([^\s"'}#,]+)""", text)
            venv = Path(os.path.normpath(parent / found[1])) if found else None
            return venv if venv and (venv / "bin" / "python").exists() else None
    return None


def stream(job: Job) -> Iterator[tuple[str, bytes]]:
    """Yield a job's output as it comes, with the stream's name, until both streams end."""
    lines: SimpleQueue[tuple[str, bytes]] = SimpleQueue()

    def pump(name: str, fd: int) -> None:
        while data := os.read(fd, 1 << 16):
            lines.put((name, data))
        os.close(fd)
        lines.put((name, b""))

    pipes = {"stdout": job.stdout, "stderr": job.stderr}
    for name, fd in pipes.items():
        if fd is not None:
            threading.Thread(target=pump, args=(name, fd), daemon=True).start()
    still_open = len(pipes)
    while still_open:
        name, data = lines.get()
        if data:
            yield name, data
        else:
            still_open -= 1


def serve() -> None:
    """Serve the engine until it goes away."""
    environments = Environments()
    signal.signal(signal.SIGINT, lambda *_: environments.leave())
    guessed = guess_virtualenv(Path.cwd())
    if guessed:
        environments.worker(guessed)  # before our own imports: on two cores both are then done at once

    import grpc
    from pulumi.runtime.proto import language_pb2 as lang
    from pulumi.runtime.proto import language_pb2_grpc, plugin_pb2

    engine_address = next((arg for arg in sys.argv[1:] if not arg.startswith("-")), "")

    def explained(error: WrongOptionsError, context: Any) -> None:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    class Host(language_pb2_grpc.LanguageRuntimeServicer):
        """The calls of pulumi/language.proto that running programs and plugins needs."""

        def Handshake(self, request: Any, _context: Any) -> Any:  # noqa: N802
            nonlocal engine_address
            engine_address = request.engine_address
            return lang.LanguageHandshakeResponse()

        def GetPluginInfo(self, _request: Any, _context: Any) -> Any:  # noqa: N802
            return plugin_pb2.PluginInfo(version="@VERSION@")

        def About(self, request: Any, context: Any) -> Any:  # noqa: N802
            try:
                worker = environments.worker(virtualenv(request.info))
            except WrongOptionsError as error:
                explained(error, context)
            told = subprocess.run([worker.python, "--version"], capture_output=True, text=True, check=False)
            return lang.AboutResponse(
                executable=worker.python, version=told.stdout.removeprefix("Python ").strip()
            )

        def GetRequiredPackages(self, request: Any, context: Any) -> Any:  # noqa: N802
            needed = []
            for package in self._packages(request.info, context):
                plugin = package["plugin"]
                if plugin and plugin.get("resource"):
                    needed.append(
                        plugin_pb2.PackageDependency(
                            name=plugin.get("name") or package["name"].removeprefix("pulumi-"),
                            version="v" + (plugin.get("version") or package["version"]).removeprefix("v"),
                            kind="resource",
                            server=plugin.get("server", ""),
                        )
                    )
            return lang.GetRequiredPackagesResponse(packages=needed)

        def GetProgramDependencies(self, request: Any, context: Any) -> Any:  # noqa: N802
            packages = self._packages(request.info, context)
            return lang.GetProgramDependenciesResponse(
                dependencies=[lang.DependencyInfo(name=p["name"], version=p["version"]) for p in packages]
            )

        def _packages(self, info: Any, context: Any) -> list[dict[str, Any]]:
            try:
                worker = environments.worker(virtualenv(info))
            except WrongOptionsError as error:
                explained(error, context)
            job = worker.start({"kind": "packages", "cwd": info.root_directory}, capture=True)
            output = {"stdout": b"", "stderr": b""}
            for name, data in stream(job):
                output[name] += data
            if job.wait():
                told = output["stderr"].decode(errors="replace")
                context.abort(
                    grpc.StatusCode.INTERNAL, f"cannot list the packages of {worker.python}: {told}"
                )
            packages: list[dict[str, Any]] = json.loads(output["stdout"])
            return packages

        def Run(self, request: Any, context: Any) -> Any:  # noqa: N802
            try:
                worker = environments.worker(virtualenv(request.info))
            except WrongOptionsError as error:
                explained(error, context)
            job = worker.start(
                {
                    "kind": "program",
                    "cwd": request.pwd or request.info.program_directory,
                    "engine": engine_address,
                    "request": base64.b64encode(request.SerializeToString()).decode(),
                },
                capture=False,
            )
            context.add_callback(job.stop)
            code = job.wait()
            if code in (0, 32):
                return lang.RunResponse(bail=code == 32)
            return lang.RunResponse(error=f"program exited with non-zero exit code: {code}")

        def RunPlugin(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
            policy = request.kind == "analyzer"
            try:
                worker = environments.worker(virtualenv(request.info, default="" if policy else "venv"))
            except WrongOptionsError as error:
                explained(error, context)
            folder = request.info.program_directory
            job = worker.start(
                {
                    "kind": "plugin",
                    "cwd": folder if policy else request.pwd,
                    "env": activated_list(list(request.env), worker),
                    "module": "pulumi.policy" if policy else None,
                    "argv": ["pulumi.policy", *request.args, folder] if policy else [folder, *request.args],
                },
                capture=True,
            )
            context.add_callback(job.stop)
            for name, data in stream(job):
                part: dict[str, Any] = {name: data}
                yield lang.RunPluginResponse(**part)
            yield lang.RunPluginResponse(exitcode=job.wait())

        def InstallDependencies(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
            try:
                venv = virtualenv(request.info, default="venv" if request.is_plugin else "", must_exist=False)
            except WrongOptionsError as error:
                explained(error, context)
            folder = request.info.program_directory
            python = os.environ.get("PULUMI_PYTHON_CMD", "python3")
            commands = []
            if venv and not (venv / "bin" / "python").exists():
                commands.append([python, "-m", "venv", str(venv)])
            if Path(folder, "requirements.txt").exists():
                pip = str(venv / "bin" / "python") if venv else python
                commands.append([pip, "-m", "pip", "install", "-r", "requirements.txt"])
            for command in commands:
                process = subprocess.Popen(
                    command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=activated(venv)
                )
                assert process.stdout is not None
                for line in process.stdout:
                    yield lang.InstallDependenciesResponse(stdout=line)
                if process.wait():
                    told = f"`{' '.join(command)}` exited with code {process.returncode}"
                    context.abort(grpc.StatusCode.INTERNAL, told)

        def RuntimeOptionsPrompts(self, _request: Any, _context: Any) -> Any:  # noqa: N802
            return lang.RuntimeOptionsResponse()

        def Cancel(self, _request: Any, _context: Any) -> Any:  # noqa: N802
            from google.protobuf.empty_pb2 import Empty

            return Empty()

    server = grpc.server(
        ThreadPoolExecutor(max_workers=32),
        options=[("grpc.max_receive_message_length", 400 << 20), ("grpc.max_send_message_length", 400 << 20)],
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Host(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    # The engine holds the other end of our stdin: it closes however the engine ends, SIGKILL included. The
    # workers notice in turn that we are gone.
    while os.read(0, 4096):
        pass
    environments.leave()


def activated_list(entries: list[str], worker: Worker) -> dict[str, str]:
    """Return the plugin's environment as the engine wants it, inside the worker's virtual environment."""
    environ = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    venv = Path(worker.python).parent.parent if os.sep in worker.python else None
    if venv and (venv / "pyvenv.cfg").exists():
        environ["PATH"] = os.pathsep.join([str(venv / "bin"), environ.get("PATH", os.defpath)])
        environ["VIRTUAL_ENV"] = str(venv)
    return environ


if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    use_protocol_only()
    serve()
