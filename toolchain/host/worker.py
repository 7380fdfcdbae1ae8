"""A warm interpreter of a program's own environment: it imports the SDK once and forks for each run.

`pulumi up` runs a program twice, and each plugin is a Python process again. Importing `pulumi` takes most of
a second, so the language host starts one worker for each virtual environment as early as it can, and every
run is a fork of it: fresh, as nothing of the user's was ever imported here, and ready at once.

A job comes over the socket as a length, a JSON object and three file descriptors: stdout, stderr, and a pipe
on which the worker answers with the child's pid and then its exit code.
"""

import base64
import contextlib
import importlib.metadata
import io
import json
import os
import re
import runpy
import select
import signal
import socket
import struct
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

# The official host's own code for "the user was already told": the engine then adds nothing.
ALREADY_TOLD = 32
INTERRUPTED = 130

NO_SDK = """It looks like the Pulumi SDK is not installed for {python}.
Install it there, for example with: {python} -m pip install pulumi"""

# Pulumi packages of the official index that come without a plugin.
WITHOUT_PLUGIN = {"pulumi", "pulumi-policy", "pulumi-esc-sdk"}


def main(control: socket.socket) -> int:
    """Serve jobs until the language host is gone; in a child, return what it should exit with."""
    import_sdk()
    wake_in, wake_out = socket.socketpair()
    wake_out.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_out.fileno(), warn_on_full_buffer=False)
    children: dict[int, int] = {}

    while True:
        ready, _, _ = select.select([control, wake_in], [], [])
        if wake_in in ready:
            wake_in.recv(4096)
            report_exits(children)
        if control in ready:
            job, fds = receive(control)
            if job is None:
                end(children)
                return 0
            stdout, stderr, status = fds
            pid = os.fork()
            if pid == 0:
                return child(job, stdout, stderr, [control, wake_in, wake_out], [status, *children.values()])
            os.close(stdout)
            os.close(stderr)
            os.write(status, f"{pid}\n".encode())
            children[pid] = status


def import_sdk() -> None:
    """Import what every program imports; a missing SDK is told when a program wants it."""
    with contextlib.suppress(ImportError):
        import pulumi
        import pulumi.provider
        import pulumi.runtime.proto  # noqa: F401


def receive(control: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Read one job and its file descriptors; no job means that the host is gone."""
    head, fds, _, _ = socket.recv_fds(control, 4, 3)
    if len(head) < 4:
        return None, []
    (size,) = struct.unpack("!I", head)
    body = bytearray()
    while len(body) < size:
        part = control.recv(size - len(body))
        if not part:
            return None, []
        body += part
    return json.loads(body), fds


def end(children: dict[int, int]) -> None:
    """Interrupt the children, as Ctrl-C would; kill those that go on."""
    for sign, patience in ((signal.SIGINT, 2.0), (signal.SIGKILL, 1.0)):
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        until = time.monotonic() + patience
        while children and time.monotonic() < until:
            report_exits(children)
            time.sleep(0.01)


def report_exits(children: dict[int, int]) -> None:
    """Tell the host how each ended child ended; one killed by a signal as a shell would."""
    for pid, status in list(children.items()):
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            exit_code = os.waitstatus_to_exitcode(code)
            with contextlib.suppress(BrokenPipeError):
                os.write(status, f"{exit_code if exit_code >= 0 else 128 - exit_code}\n".encode())
            os.close(status)
            del children[pid]


def child(job: dict[str, Any], stdout: int, stderr: int, sockets: list[socket.socket], fds: list[int]) -> int:
    """In the fork: become an ordinary Python process, then do the job."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, interrupt)
    for sock in sockets:
        sock.close()
    for fd in fds:
        os.close(fd)
    for source, target in ((stdout, 1), (stderr, 2)):
        os.dup2(source, target)
        os.close(source)
    # No buffer below the text, as with `python -u`: a plugin's first line is its port, which the engine waits
    # for, and the SDK writes it as bytes without a flush.
    sys.stdout = unbuffered(1)
    sys.stderr = unbuffered(2)
    os.chdir(job["cwd"])
    try:
        if job["kind"] == "packages":
            return list_packages()
        if job["kind"] == "plugin":
            return run_plugin(job)
        return run_program(job)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
            sys.stderr.flush()


def interrupt(*_: object) -> None:
    """End the run; where Python cannot raise, in a finalizer say, it prints nothing either."""
    sys.unraisablehook = lambda _: None
    raise KeyboardInterrupt


def unbuffered(fd: int) -> io.TextIOWrapper:
    """Open a stream that writes each line at once."""
    raw = cast(BinaryIO, os.fdopen(fd, "wb", buffering=0, closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def list_packages() -> int:
    """Print the installed packages, with the plugin of those that have one.

    A package that others want for an extra of theirs only may never be used, and its plugin is large: the
    engine fetches that when a resource of its is declared, instead of at the start of every run.
    """
    # Asked at the start of every run: files are searched as text, as parsing them takes ten times as long.
    dists = [(dist, header(dist)) for dist in importlib.metadata.distributions()]
    optional = wanted_for_extras_only([head for _, head in dists])
    found = []
    for dist, head in dists:
        name = field(head, "Name").lower().replace("_", "-")
        entry = plugin_file(dist)
        plugin: Any = None
        if entry:
            plugin = json.loads(entry.read_text())
        elif name.startswith("pulumi-"):
            plugin = {"resource": True}
        if name in WITHOUT_PLUGIN or name in optional:
            plugin = None
        found.append({"name": name, "version": field(head, "Version"), "plugin": plugin})
    json.dump(found, sys.stdout)
    return 0


def header(dist: importlib.metadata.Distribution) -> str:
    """The fields of a package's metadata, without the description that follows them."""
    return (dist.read_text("METADATA") or dist.read_text("PKG-INFO") or "").partition("\n\n")[0]


def plugin_file(dist: importlib.metadata.Distribution) -> Path | None:
    """The file in which a package names its plugin, if it has one."""
    record = dist.read_text("RECORD") or ""
    found = re.search(r"^[^,\n]*pulumi-plugin\.json(?=,)", record, re.M)
    return Path(str(dist.locate_file(found[0]))) if found else None


def field(head: str, name: str) -> str:
    """The first value of a field, or nothing."""
    found = re.search(rf"^{name}:[ \t]*(.*)$", head, re.M)
    return found[1].strip() if found else ""


def wanted_for_extras_only(heads: list[str]) -> set[str]:
    """The names of packages that some extra of another asks for, and nothing else."""
    always: set[str] = set()
    extras: set[str] = set()
    for head in heads:
        for name, rest in re.findall(r"^Requires-Dist:\s*([A-Za-z0-9._-]+)(.*)$", head, re.M):
            wanted = extras if re.search(r";.*\bextra\s*==", rest) else always
            wanted.add(name.lower().replace("_", "-"))
    return extras - always


def run_plugin(job: dict[str, Any]) -> int:
    """Run a provider, component or policy pack, by path or as a module."""
    os.environ.clear()
    os.environ.update(job["env"])
    sys.argv = list(job["argv"])
    if job["module"]:
        runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
    return 0


def run_program(job: dict[str, Any]) -> int:
    """Run a Pulumi program; the exit code says to the host what the engine should say."""
    try:
        import pulumi
        from pulumi.runtime.proto import language_pb2
    except ImportError:
        traceback.print_exc()
        print(NO_SDK.format(python=sys.executable), file=sys.stderr)
        return 1
    import asyncio
    import logging
    from concurrent.futures import ThreadPoolExecutor

    request = language_pb2.RunRequest.FromString(base64.b64decode(job["request"]))
    pulumi.runtime.set_all_config(dict(request.config), list(request.configSecretKeys))
    pulumi.runtime.configure(
        pulumi.runtime.Settings(
            project=request.project,
            stack=request.stack,
            parallel=request.parallel,
            engine=job["engine"],
            monitor=request.monitor_address,
            dry_run=request.dryRun,
            organization=request.organization,
            root_directory=request.info.root_directory,
        )
    )
    program = request.info.entry_point
    sys.argv = [program, *request.args]
    # A program that ends early leaves futures unawaited, by design of the SDK; asyncio would complain.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    executor = ThreadPoolExecutor(max_workers=max(request.parallel, 1) * 4)
    loop.set_default_executor(executor)
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(lambda: run_path(program)))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return 1
    except Exception as error:  # noqa: BLE001 - whatever a program raises is the user's to see
        if str(error) == "resource monitor shut down":
            return ALREADY_TOLD  # a resource failed, and the engine, which ends the run, has said why
        pulumi.log.error(f"Program failed with an unhandled exception:\n{user_traceback(error, program)}")
        return ALREADY_TOLD
    finally:
        executor.shutdown(wait=True)
        loop.close()
    return 0


def run_path(program: str) -> None:
    """Run the program's file, or its folder's `__main__.py`."""
    path = Path(program)
    if path.is_dir() and not (path / "__main__.py").exists():
        import pulumi

        pulumi.log.error(f"unable to find main python program `__main__.py` in `{path.resolve()}`")
        sys.exit(ALREADY_TOLD)
    runpy.run_path(program, run_name="__main__")


def user_traceback(error: BaseException, program: str) -> str:
    """Format the traceback from the program's first frame on: what lies above is not the user's."""
    path = Path(program)
    start = str((path / "__main__.py" if path.is_dir() else path).resolve())
    frame: TracebackType | None = error.__traceback__
    while frame and str(Path(frame.tb_frame.f_code.co_filename).resolve()) != start:
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame or error.__traceback__))


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: a program's `import` must not find the host's files
    sys.exit(main(socket.socket(fileno=int(sys.argv[1]))))
