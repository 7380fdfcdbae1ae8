"""The registry, its database and its backups."""

import configparser
import subprocess
import sys
from typing import Any

import pytest

SERVER, DATABASE = ("Deployment", "registry"), ("StatefulSet", "registry-database")


def pod(objects: Any, key: tuple[str, str] = SERVER) -> dict[str, Any]:
    return dict(objects[key]["spec"]["template"]["spec"])


def environment(container: Any) -> dict[str, Any]:
    return {one["name"]: one.get("value") or one["valueFrom"]["secretKeyRef"] for one in container["env"]}


def test_the_database_is_brought_up_to_date_before_the_server_looks_at_it(render: Any) -> None:
    first, *_ = pod(render())["initContainers"]
    assert first["command"] == ["mlflow", "db", "upgrade", "$(DATABASE_URI)"]
    assert environment(first)["DATABASE_URI"] == {"name": "registry-database", "key": "uri"}


def test_the_password_is_in_a_secret_and_nowhere_else(render: Any) -> None:
    objects = render()
    secret = objects["Secret", "registry-database"]["stringData"]
    assert len(secret["password"]) >= 24
    assert secret["password"] in secret["uri"]
    others = {key: manifest for key, manifest in objects.items() if key[0] != "Secret"}
    assert secret["password"] not in str(others)
    assert render()["Secret", "registry-database"]["stringData"]["password"] != secret["password"]


def test_a_database_of_ones_own_is_used_instead(render: Any) -> None:
    objects = render(registry={"database_secret": "mine", "artifacts": "s3://models/mlflow", "secret": "s3"})
    assert DATABASE not in objects
    assert not [key for key in objects if key[0] in ("Secret", "PersistentVolumeClaim")]
    (server,) = pod(objects)["containers"]
    assert environment(server)["DATABASE_URI"] == {"name": "mine", "key": "uri"}
    assert server["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert server["command"][-2:] == ["--artifacts-destination", "s3://models/mlflow"]
    assert objects[SERVER]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_a_volume_that_one_pod_holds_is_not_wanted_by_two(render: Any) -> None:
    objects = render()
    assert objects[SERVER]["spec"]["strategy"] == {"type": "Recreate"}
    claims = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod(objects)["volumes"]]
    assert "registry-artifacts" in claims


def test_the_server_answers_to_the_names_that_its_clients_use(render: Any) -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    (server,) = pod(render())["containers"]
    allowed = environment(server)["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    for host in ("registry.serving-test.svc:5000", "registry:5000", "10.244.0.7:5000", "127.0.0.1:41234"):
        assert is_allowed_host_header(allowed, host), host
    assert not is_allowed_host_header(allowed, "evil.example.com")


def test_a_login_is_written_where_mlflow_looks_for_it(
    render: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = pod(render(registry={"login_secret": "login"}))
    _, login = spec["initContainers"]
    (server,) = spec["containers"]
    assert server["command"][-2:] == ["--app-name", "basic-auth"]
    place = environment(server)["MLFLOW_AUTH_CONFIG_PATH"]
    script = login["command"][2].replace(place, str(tmp_path / "login.ini"))
    known = {"DATABASE_URI": "postgresql://u:p%40@h/d", "LOGIN_USERNAME": "me", "LOGIN_PASSWORD": "p%ss"}
    subprocess.run([sys.executable, "-c", script], check=True, env=known)
    file = configparser.RawConfigParser()
    file.read(tmp_path / "login.ini")
    assert dict(file["mlflow"])["admin_password"] == "p%ss"
    assert (tmp_path / "login.ini").stat().st_mode & 0o077 == 0


def test_the_seed_is_run_again_when_it_changes_and_only_then(render: Any) -> None:
    def job(**seed: Any) -> tuple[str, Any]:
        objects = render(registry={"seed": {"command": ["fill"], **seed}})
        ((_, name),) = [key for key in objects if key[0] == "Job"]
        return name, objects["Job", name]

    name, manifest = job()
    assert name == job()[0] != job(command=["fill", "more"])[0]
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["fill"]
    assert environment(container)["MLFLOW_TRACKING_URI"] == "http://registry.serving-test.svc:5000"
    assert manifest["spec"]["activeDeadlineSeconds"] == 900


def test_backups_are_whole_and_as_many_as_wanted(render: Any, tmp_path: Any) -> None:
    objects = render(registry={"backup": {"keep": 3, "schedule": "@hourly"}})
    job = objects["CronJob", "registry-backup"]["spec"]
    assert (job["schedule"], job["concurrencyPolicy"]) == ("@hourly", "Forbid")
    (container,) = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "pg_dump").write_text(
        '#!/bin/sh\nfor a; do case $a in --file=*) echo dump > "${a#--file=}";; esac; done\n'
    )
    (tools / "pg_dump").chmod(0o755)
    folder = tmp_path / "backups"
    folder.mkdir()
    for old in range(5):
        (folder / f"2020010{old}T000000Z.dump").write_text("old")
    script = container["command"][2].replace("/backups", str(folder))
    subprocess.run(["sh", "-c", script], check=True, env={"PATH": f"{tools}:/usr/bin:/bin"})
    kept = sorted(file.name for file in folder.iterdir())
    assert kept[:2] == ["20200103T000000Z.dump", "20200104T000000Z.dump"]
    assert len(kept) == 3
    (tools / "pg_dump").write_text("#!/bin/sh\nexit 1\n")
    failed = subprocess.run(["sh", "-c", script], check=False, env={"PATH": f"{tools}:/usr/bin:/bin"})
    assert failed.returncode != 0
    assert sorted(file.name for file in folder.iterdir()) == kept


def test_only_the_registry_reaches_the_database(render: Any) -> None:
    objects = render(registry={"backup": {}})
    (rule,) = objects["NetworkPolicy", "registry-database"]["spec"]["ingress"]
    (who,) = rule["from"][0]["podSelector"]["matchExpressions"]
    labels = [
        objects[SERVER]["spec"]["template"]["metadata"]["labels"],
        objects["CronJob", "registry-backup"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"][
            "labels"
        ],
    ]
    assert {one["app.kubernetes.io/name"] for one in labels} == set(who["values"])


def test_the_registry_can_be_somebody_to_the_cloud_and_is_nobody_to_the_cluster(render: Any) -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/mlflow"}
    objects = render(registry={"artifacts": "s3://models/mlflow", "identity": role})
    account = objects["ServiceAccount", "registry"]
    assert account["metadata"]["annotations"] == role
    assert account["automountServiceAccountToken"] is False
    assert pod(objects)["serviceAccountName"] == "registry"
