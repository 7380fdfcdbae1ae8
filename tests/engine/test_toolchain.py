"""The Python language host with the real engine: everything the project asks of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pulumi.automation as automation
import pytest

UNCHANGED = "1 unchanged"
Project = Callable[..., Path]
Folder = Callable[[str, Mapping[str, str]], Path]


def up(run, folder, *args):
    """Run `pulumi up` on the test's stack."""
    return run("up", "--yes", "--stack", "test", *args, cwd=folder)


def outputs(run, folder):
    """Read the stack's outputs."""
    return json.loads(
        run("stack", "output", "--json", "--show-secrets", "--stack", "test", cwd=folder).stdout
    )


def test_a_program_runs_with_its_configuration_and_changes_nothing_twice(project_of: Project, pulumi):
    folder = project_of(
        """
        import sys
        import pulumi
        config = pulumi.Config()
        print("said by the program")
        pulumi.export("word", config.require("word"))
        pulumi.export("hidden", config.require_secret("hidden"))
        pulumi.export("prefix", sys.prefix)
        pulumi.export("stack", pulumi.get_stack())
        """
    )
    pulumi("config", "set", "word", "hello", "--stack", "test", cwd=folder)
    pulumi("config", "set", "--secret", "hidden", "s3cret", "--stack", "test", cwd=folder)

    first = up(pulumi, folder)

    assert "said by the program" in first.stdout
    assert "s3cret" not in first.stdout
    assert outputs(pulumi, folder) == {
        "word": "hello",
        "hidden": "s3cret",
        "prefix": sys.prefix,
        "stack": "test",
    }
    assert UNCHANGED in up(pulumi, folder, "--expect-no-changes").stdout


def test_about_names_the_programs_python_and_packages(project_of: Project, pulumi):
    folder = project_of("")
    about = json.loads(pulumi("about", "--json", "--stack", "test", cwd=folder).stdout)
    assert about["runtime"]["executable"] == str(Path(sys.prefix) / "bin" / "python")
    assert about["runtime"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert "pulumi" in {package["name"] for package in about["dependencies"]}


def test_preview_leaves_nothing_behind_for_the_update(project_of: Project, pulumi):
    folder = project_of(
        """
        import helper, pulumi
        helper.calls.append(1)
        pulumi.export("calls", len(helper.calls))
        """,
        **{"helper.py": "calls = []\n"},
    )
    up(pulumi, folder)
    assert outputs(pulumi, folder) == {"calls": 1}


def test_a_run_error_is_shown_without_a_traceback(project_of: Project, pulumi):
    folder = project_of("import pulumi\nraise pulumi.RunError('traffic: weights sum to 90, not 100')\n")
    failed = pulumi("up", "--yes", "--stack", "test", cwd=folder, check=False)
    assert failed.returncode != 0
    assert "error: traffic: weights sum to 90, not 100" in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr


def test_an_exception_is_shown_from_the_programs_own_first_line(project_of: Project, pulumi):
    folder = project_of("def fail():\n    raise KeyError('lost')\n\nfail()\n")
    failed = pulumi("preview", "--stack", "test", cwd=folder, check=False)
    said = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "Program failed with an unhandled exception" in said
    assert "KeyError: 'lost'" in said
    assert "line 4, in <module>" in said
    assert "runpy" not in said
    assert "worker.py" not in said


def test_the_exit_code_of_a_program_that_gives_up_is_told(project_of: Project, pulumi):
    folder = project_of("import sys\nsys.exit(7)\n")
    failed = pulumi("preview", "--stack", "test", cwd=folder, check=False)
    assert "program exited with non-zero exit code: 7" in failed.stdout + failed.stderr


def test_a_missing_virtual_environment_is_told_with_its_mend(folder_of: Folder, pulumi):
    head = "name: sample\nruntime: {name: python, options: {virtualenv: nowhere}}\n"
    folder = folder_of("sample", {"Pulumi.yaml": head, "__main__.py": ""})
    pulumi("stack", "init", "test", cwd=folder)

    failed = pulumi("preview", "--stack", "test", cwd=folder, check=False)
    assert f"{folder / 'nowhere'} does not exist; run `pulumi install`" in failed.stdout + failed.stderr

    pulumi("install", cwd=folder)
    assert (folder / "nowhere" / "bin" / "python").exists()


def test_main_may_be_a_folder(project_of: Project, pulumi):
    folder = project_of(
        "raise SystemExit('the wrong program')\n",
        settings="main: stacks/\n",
        **{
            "stacks/__main__.py": "import os, beside, pulumi\npulumi.export('name', beside.NAME)\n",
            "stacks/beside.py": "NAME = 'beside'\n",
        },
    )
    up(pulumi, folder)
    assert outputs(pulumi, folder) == {"name": "beside"}


# The plain protocol, as the project's own local provider speaks it.
SERVICER = """
import sys
from concurrent import futures
import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2 as p, provider_pb2_grpc

class Notes(provider_pb2_grpc.ResourceProviderServicer):
    def GetPluginInfo(self, request, context):
        from pulumi.runtime.proto import plugin_pb2
        return plugin_pb2.PluginInfo(version="0.0.1")
    def CheckConfig(self, request, context): return p.CheckResponse(inputs=request.news)
    def DiffConfig(self, request, context): return p.DiffResponse()
    def Configure(self, request, context): return p.ConfigureResponse(supportsPreview=True)
    def Check(self, request, context): return p.CheckResponse(inputs=request.news)
    def Diff(self, request, context):
        changed = dict(request.olds) != dict(request.news)
        return p.DiffResponse(changes=p.DiffResponse.DIFF_SOME if changed else p.DiffResponse.DIFF_NONE)
    def Create(self, request, context): return p.CreateResponse(id="1", properties=request.properties)
    def Update(self, request, context): return p.UpdateResponse(properties=request.news)
    def Delete(self, request, context): return empty_pb2.Empty()
    def Cancel(self, request, context): return empty_pb2.Empty()

server = grpc.server(futures.ThreadPoolExecutor())
provider_pb2_grpc.add_ResourceProviderServicer_to_server(Notes(), server)
print(server.add_insecure_port("127.0.0.1:0"))
server.start()
server.wait_for_termination()
"""


def test_a_provider_plugin_in_the_project_makes_changes_and_removes_resources(project_of: Project, pulumi):
    program = """
        import pulumi
        class Note(pulumi.CustomResource):
            def __init__(self, name, text):
                super().__init__("notes:index:Note", name, {"text": text})
        Note("note", pulumi.Config().require("text"))
        """
    folder = project_of(
        program,
        settings="plugins: {providers: [{name: notes, path: ./notes}]}\n",
        **{
            "notes/PulumiPlugin.yaml": f"runtime: {{name: python, options: {{virtualenv: {sys.prefix}}}}}\n",
            "notes/__main__.py": SERVICER,
        },
    )
    pulumi("config", "set", "text", "one", "--stack", "test", cwd=folder)
    assert "+ 2 created" in up(pulumi, folder).stdout
    assert "2 unchanged" in up(pulumi, folder, "--expect-no-changes").stdout
    pulumi("config", "set", "text", "two", "--stack", "test", cwd=folder)
    assert "~ 1 updated" in up(pulumi, folder).stdout
    assert "- 2 deleted" in pulumi("destroy", "--yes", "--stack", "test", cwd=folder).stdout


def test_a_plugin_that_fails_to_start_shows_what_it_said(project_of: Project, pulumi):
    folder = project_of(
        """
        import pulumi
        pulumi.CustomResource("notes:index:Note", "note", {})
        """,
        settings="plugins: {providers: [{name: notes, path: ./notes}]}\n",
        **{
            "notes/PulumiPlugin.yaml": f"runtime: {{name: python, options: {{virtualenv: {sys.prefix}}}}}\n",
            "notes/__main__.py": "import sys\nprint('no disk left', file=sys.stderr)\nsys.exit(9)\n",
        },
    )
    failed = pulumi("preview", "--stack", "test", cwd=folder, check=False)
    said = failed.stdout + failed.stderr
    assert "exit status 9" in said
    assert "no disk left" in said


COMPONENT = '''
from typing import TypedDict
import pulumi

class GreetingArgs(TypedDict):
    word: pulumi.Input[str]
    """What is said."""

class Greeting(pulumi.ComponentResource):
    """Says a word."""
    said: pulumi.Output[str]
    def __init__(self, name: str, args: GreetingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("greetings:index:Greeting", name, {}, opts)
        self.said = pulumi.Output.from_input(args["word"]).apply(lambda word: word + "!")
        self.register_outputs({"said": self.said})
'''
COMPONENT_MAIN = """
from pulumi.provider.experimental import component_provider_host
from greeting import Greeting
component_provider_host(name="greetings", components=[Greeting])
"""


def test_a_component_plugin_has_a_schema_and_is_consumed_through_the_engine(
    project_of: Project, folder_of: Folder, pulumi
):
    package = folder_of(
        "greetings",
        {
            "PulumiPlugin.yaml": f"runtime: {{name: python, options: {{virtualenv: {sys.prefix}}}}}\n",
            "greeting.py": COMPONENT,
            "__main__.py": COMPONENT_MAIN,
        },
    )
    schema = json.loads(pulumi("package", "get-schema", str(package), cwd=package.parent).stdout)
    component = schema["resources"]["greetings:index:Greeting"]
    assert component["inputProperties"]["word"]["type"] == "string"
    assert component["inputProperties"]["word"]["description"] == "What is said."

    folder = project_of(
        """
        import pulumi
        class Greeting(pulumi.ComponentResource):
            def __init__(self, name, word):
                super().__init__("greetings:index:Greeting", name, {"word": word, "said": None}, remote=True)
        pulumi.export("said", Greeting("hello", "hello").said)
        """,
        settings=f"plugins: {{providers: [{{name: greetings, path: {package}}}]}}\n",
    )
    up(pulumi, folder)
    assert outputs(pulumi, folder) == {"said": "hello!"}


def test_a_policy_pack_stops_a_preview(project_of: Project, folder_of: Folder, pulumi):
    pack = folder_of(
        "pack",
        {
            "PulumiPolicy.yaml": f"runtime: {{name: python, options: {{virtualenv: {sys.prefix}}}}}\n",
            "__main__.py": """
                from pulumi_policy import EnforcementLevel, PolicyPack, StackValidationPolicy
                def refuse(args, report):
                    report(f"{len(args.resources)} resource is too many")
                PolicyPack("pack", policies=[StackValidationPolicy(
                    name="none", description="No resources", validate=refuse,
                    enforcement_level=EnforcementLevel.MANDATORY)])
                """,
        },
    )
    folder = project_of("import pulumi\npulumi.export('a', 1)\n")
    refused = pulumi("preview", "--policy-pack", str(pack), "--stack", "test", cwd=folder, check=False)
    assert refused.returncode != 0
    assert "1 resource is too many" in refused.stdout + refused.stderr


def test_dynamic_providers_run(project_of: Project, pulumi):
    folder = project_of(
        """
        import pulumi
        from pulumi.dynamic import CreateResult, Resource, ResourceProvider
        class Doubler(ResourceProvider):
            def create(self, props):
                return CreateResult("id", {"twice": props["number"] * 2})
        class Doubled(Resource):
            twice: pulumi.Output[int]
            def __init__(self, name, number):
                super().__init__(Doubler(), name, {"number": number, "twice": None})
        pulumi.export("twice", Doubled("doubled", 21).twice)
        """
    )
    up(pulumi, folder)
    assert outputs(pulumi, folder) == {"twice": 42}


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "local"])
def test_the_automation_api_works(inline: bool, engine_env, monkeypatch, folder_of: Folder):
    for name, value in engine_env.items():
        monkeypatch.setenv(name, value)

    def program() -> None:
        import pulumi

        pulumi.export("answer", 42)

    if inline:
        stack = automation.create_stack(stack_name="test", project_name="sample", program=program)
    else:
        head = f"name: sample\nruntime: {{name: python, options: {{virtualenv: {sys.prefix}}}}}\n"
        main = "import pulumi\npulumi.export('answer', 42)\n"
        folder = folder_of("sample", {"Pulumi.yaml": head, "__main__.py": main})
        stack = automation.create_stack(stack_name="test", work_dir=str(folder))
    result = stack.up()
    assert result.outputs["answer"].value == 42
    stack.destroy()


def test_a_killed_engine_leaves_no_process(project_of: Project, engine_env, tmp_path: Path):
    started = tmp_path / "started"
    folder = project_of(
        f"""
        import os, pathlib, time
        pathlib.Path({str(started)!r}).write_text(f"{{os.getpid()}} {{os.getppid()}}")
        time.sleep(600)
        """
    )
    engine = subprocess.Popen(
        ["pulumi", "preview", "--non-interactive", "--stack", "test"],
        cwd=folder,
        env=engine_env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: started.exists() and bool(started.read_text()))
    left = [int(pid) for pid in started.read_text().split()]
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), seconds=5)


def test_an_interrupted_program_ends_without_a_traceback(project_of: Project, engine_env, tmp_path: Path):
    started = tmp_path / "started"
    folder = project_of(
        f"""
        import pathlib, time
        pathlib.Path({str(started)!r}).touch()
        time.sleep(600)
        """
    )
    engine = subprocess.Popen(
        ["pulumi", "preview", "--non-interactive", "--stack", "test"],
        cwd=folder,
        env=engine_env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(started.exists)
    began = time.monotonic()
    for _ in range(2):  # the engine waits for the program at the first one
        engine.send_signal(signal.SIGINT)
        time.sleep(0.5)
    said, _ = engine.communicate(timeout=30)
    assert engine.returncode != 0
    assert "Traceback" not in said
    assert time.monotonic() - began < 20


def wait_until(true, seconds: float = 60.0) -> None:
    """Poll for something to become true."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.05)


def test_the_engine_is_the_one_that_make_setup_gives(engine_folder: Path, pulumi, tmp_path: Path):
    assert os.access(engine_folder / "pulumi", os.X_OK)
    assert pulumi("version", cwd=tmp_path).stdout.startswith("v3.")
