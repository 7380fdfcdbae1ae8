"""The platforms know nothing of each other, and the local one needs nothing of a cluster's."""

import subprocess
import sys
from typing import Any

import pytest

from components.arguments import ArgumentsError
from components.kubernetes.objects import checked_name
from components.kubernetes.platform import namespace_name


def test_the_local_platform_imports_nothing_of_a_cluster() -> None:
    program = (
        "import sys\n"
        "from components.platform import platform\n"
        "from components.spec import PlatformName\n"
        "import components.plugin\n"
        "platform(PlatformName.LOCAL)\n"
        "found = [name for name in sys.modules if 'kubernetes' in name and not "
        "name.startswith('components.spec')]\n"
        "sys.exit(str(found) if found else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_provider_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import pulumi

    from components.kubernetes import objects

    def missing(name: str) -> str:
        raise objects.PackageNotFoundError(name)

    monkeypatch.setattr(objects, "version", missing)
    objects.plugin_version.cache_clear()
    with pytest.raises(pulumi.RunError, match=r"pip install 'serving-estate\[kubernetes\]'"):
        objects.plugin_version()
    monkeypatch.undo()
    objects.plugin_version.cache_clear()


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("serving", "prod", "estate"), "serving-prod"),
        (("Serving_Estate", "acme/prod", "estate"), "serving-estate-prod"),
        (("p", "s", "digits"), "p-s-digits"),
        (("x" * 60, "prod", "estate"), "x" * 60 + "-pr"),
    ],
)
def test_a_namespace_is_called_after_its_stack(parts: tuple[str, str, str], name: str) -> None:
    assert namespace_name(*parts) == name


@pytest.mark.parametrize("name", ["Digits", "digits_1", "1digits", "digits-", "x" * 64, "dïgits"])
def test_a_component_whose_name_no_object_can_have_is_refused(name: str) -> None:
    with pytest.raises(ArgumentsError, match="objects of a cluster cannot be called"):
        checked_name("ModelServer", name)


def test_the_local_platform_gets_plain_values_whatever_a_cluster_would_be_told(recorded: Any) -> None:
    endpoint = {"variants": {"blue": {"model": "/m"}}, "scaling": {"min": 2, "max": 4}, "slo": {}}
    asked = recorded(platform="local", registry=None, endpoints={"digits": endpoint}).asked
    (server,) = [args.inputs for args in asked if args.typ == "serving-estate:local:ModelServer"]
    assert (server["replicas"], server["model"]) == (2, "/m")
    assert not [args.typ for args in asked if args.typ.startswith("kubernetes:")]
    assert "serving-estate:index:Autoscaler" not in {args.typ for args in asked}
