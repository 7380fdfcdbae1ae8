"""Where files come from, and the cache they lie in: whole or not at all, verified, bounded, shared."""

import http.server
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from model_server.errors import LoadFailed
from model_server.models.artifact import Artifact
from model_server.models.cache import evict, fetch
from model_server.models.source import Resolved, Unavailable
from model_server.models.sources import resolve
from model_server.models.stores import store_for
from model_server.settings import ModelSettings, RegistrySettings, VersionPolicy

QUICK = RegistrySettings(retry_seconds=3, timeout_seconds=5)
CONTENT = {"MLmodel": b"flavors: {}", "data/weights.bin": os.urandom(100_000)}


class Site:
    """A web server that does what a test says."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.faults: list[int] = []
        """Statuses of the next answers; 0 breaks off in the middle of the body."""
        self.redirects: dict[str, str] = {}
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append((self.command, self.path, self.headers.get("Authorization")))
                body = site.files.get(urlsplit(self.path).path)
                fault = site.faults.pop(0) if site.faults else None
                if self.path in site.redirects:
                    self.send_response(302)
                    self.send_header("Location", site.redirects[self.path])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if body is None or fault:
                    self.send_error(fault or 404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                if self.path in site.etags:
                    self.send_header("ETag", site.etags[self.path])
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body[: len(body) // 2] if fault == 0 else body)

            do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def get(source: str, cache: Path, registry: RegistrySettings = QUICK, **model: Any) -> Artifact:
    (resolved,) = resolve(ModelSettings(name="m", source=source, **model), registry)
    return fetch(resolved, registry, cache)


def content(artifact: Artifact) -> dict[str, bytes]:
    return {path: (artifact.root / path).read_bytes() for path in artifact.digests}


def archive(kind: str, members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as packed:
            for name, data in members.items():
                packed.writestr(name, data)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz" if kind != "tar" else "w") as packed:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                packed.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tgz"])
@pytest.mark.parametrize("outer", ["", "model/"])
def test_archives_from_http(site: Site, tmp_path: Path, kind: str, outer: str) -> None:
    packed = archive(kind, {outer + name: data for name, data in CONTENT.items()})
    site.files[f"/m.{kind}"] = packed
    artifact = get(f"{site.url}/m.{kind}", tmp_path)
    assert content(artifact) == CONTENT
    import hashlib

    artifact.verify(hashlib.sha256(packed).hexdigest(), "a test")
    with pytest.raises(LoadFailed, match="but a test says 00"):
        artifact.verify("0" * 64, "a test")


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_archives_cannot_write_elsewhere_and_broken_ones_are_refused(
    site: Site, tmp_path: Path, kind: str
) -> None:
    cache = tmp_path / "cache"
    site.files[f"/evil.{kind}"] = archive(kind, {"../../../evil": b"x", "MLmodel": b"y"})
    try:
        get(f"{site.url}/evil.{kind}", cache)
    except LoadFailed as error:
        assert "cannot be unpacked" in error.message  # noqa: PT017 - zipfile strips, tarfile refuses
    assert not [path for path in tmp_path.rglob("evil") if "models" not in path.parts]
    site.files[f"/cut.{kind}"] = archive(kind, CONTENT)[:500]
    with pytest.raises(LoadFailed, match="cannot be unpacked"):
        get(f"{site.url}/cut.{kind}", cache)
    assert not list((cache / "work").iterdir())


def test_transient_faults_are_repeated_and_half_a_file_is_never_used(site: Site, tmp_path: Path) -> None:
    site.files["/m.onnx"] = CONTENT["data/weights.bin"]
    site.faults = [503, 429]
    (resolved,) = resolve(ModelSettings(name="m", source=f"{site.url}/m.onnx"), QUICK)
    site.faults = [500, 0, 0]
    assert content(fetch(resolved, QUICK, tmp_path)) == {"m.onnx": CONTENT["data/weights.bin"]}
    assert [method for method, _, _ in site.requests] == ["HEAD"] * 3 + ["GET"] * 4
    site.faults = [0] * 100
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"broke off.*\(tried \d+ times in 1 s\)"):
        get(f"{site.url}/m.onnx?x=1", tmp_path, RegistrySettings(retry_seconds=1))
    assert time.monotonic() - began < 3
    assert len(list((tmp_path / "locations").iterdir())) == 1


def test_lasting_faults_are_not_repeated_and_name_the_mend(site: Site, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=f"{site.url}/none.onnx: 404"):
        get(f"{site.url}/none.onnx?signature=secret", tmp_path)
    site.files["/m.onnx"] = b"x"
    assert len(site.requests) == 2
    site.faults = [403, 403]
    with pytest.raises(LoadFailed, match=r"403: Forbidden .*credentials") as caught:
        get(f"{site.url}/m.onnx?signature=secret", tmp_path)
    assert "secret" not in caught.value.message
    with pytest.raises(LoadFailed, match="ends up in logs") as caught:
        get("http://me:hunter2@127.0.0.1:9/m.onnx", tmp_path)
    assert "hunter2" not in caught.value.message


def test_credentials_do_not_follow_redirects(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_SERVER_HTTP_TOKEN", "t0ken")
    other = Site()
    other.files["/real"] = b"model"
    site.redirects["/m.onnx"] = f"{other.url}/real"
    assert content(get(f"{site.url}/m.onnx", tmp_path)) == {"m.onnx": b"model"}
    assert {token for _, _, token in site.requests} == {"Bearer t0ken"}
    assert {token for _, _, token in other.requests} == {None}
    other.close()
    site.redirects["/m.onnx"] = "file:///etc/passwd"
    with pytest.raises(LoadFailed):
        get(f"{site.url}/m.onnx?again", tmp_path)


def test_a_changed_file_is_noticed_and_an_unchanged_one_not_fetched(site: Site, tmp_path: Path) -> None:
    site.files["/m.onnx"], site.etags["/m.onnx"] = b"one", '"1"'
    assert content(get(f"{site.url}/m.onnx", tmp_path)) == {"m.onnx": b"one"}
    get(f"{site.url}/m.onnx", tmp_path)
    assert [method for method, _, _ in site.requests] == ["HEAD", "GET", "HEAD"]
    site.files["/m.onnx"], site.etags["/m.onnx"] = b"two", '"2"'
    assert content(get(f"{site.url}/m.onnx", tmp_path)) == {"m.onnx": b"two"}


def test_the_cache_is_shared_by_content_verified_and_bounded(site: Site, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        site.files[f"/{name}.onnx"] = name.encode() * 1000
    site.files["/also/a.onnx"] = site.files["/a.onnx"]
    first = get(f"{site.url}/a.onnx", tmp_path)
    assert get(f"{site.url}/also/a.onnx", tmp_path).root == first.root
    (first.root / "a.onnx").write_bytes(b"tampered")
    assert content(get(f"{site.url}/a.onnx", tmp_path)) == {"a.onnx": site.files["/a.onnx"]}
    for name in ("b", "c"):
        get(f"{site.url}/{name}.onnx", tmp_path)
        time.sleep(0.02)
    assert evict(tmp_path, 2000) == 1000
    # `first` is in use: b, the older of those that are not, had to go.
    assert {path.name for path in (tmp_path / "models").glob("*/*")} == {"a.onnx", "c.onnx"}
    assert evict(tmp_path, 0) == 1000
    assert (first.root / "a.onnx").exists()
    del first
    evict(tmp_path, 0)
    assert not list((tmp_path / "models").iterdir())


def test_many_processes_download_once(site: Site, tmp_path: Path) -> None:
    site.files["/m.onnx"] = os.urandom(3_000_000)
    code = (
        "import sys, pathlib\n"
        "from model_server.models.cache import fetch\n"
        "from model_server.models.source import Resolved\n"
        "from model_server.settings import RegistrySettings\n"
        "url, cache = sys.argv[1:]\n"
        "artifact = fetch(Resolved('1', url, url), RegistrySettings(), pathlib.Path(cache))\n"
        "print(artifact.digest)\n"
    )
    command = [sys.executable, "-c", code, f"{site.url}/m.onnx", str(tmp_path)]
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True), range(4)))
    assert len({run.stdout for run in runs}) == 1, runs
    assert all(run.returncode == 0 for run in runs)
    assert [method for method, _, _ in site.requests] == ["GET"]


def test_what_a_killed_download_left_is_not_used_and_is_cleaned(site: Site, tmp_path: Path) -> None:
    site.files["/m.onnx"] = b"whole"
    get(f"{site.url}/m.onnx", tmp_path)
    (record,) = (tmp_path / "locations").iterdir()
    left = tmp_path / "work" / f"{record.stem}.dead" / "files"
    left.mkdir(parents=True)
    (left / "m.onnx").write_bytes(b"half")
    record.unlink()
    assert content(get(f"{site.url}/m.onnx", tmp_path)) == {"m.onnx": b"whole"}
    assert not list((tmp_path / "work").iterdir())


def test_a_folder_of_versions(tmp_path: Path) -> None:
    for name in ("1", "2", "10", "03", "tmp"):
        (tmp_path / name).mkdir()

    def versions(**policy: Any) -> list[str]:
        model = ModelSettings(name="m", source=str(tmp_path), versions=VersionPolicy(**policy))
        return [resolved.version for resolved in resolve(model, QUICK)]

    assert versions(latest=2) == ["10", "2"]
    assert versions(specific=["1", "10"]) == ["1", "10"]
    with pytest.raises(LoadFailed, match="no version 7; found: 10, 2, 1"):
        versions(specific=["7"])
    with pytest.raises(LoadFailed, match="has no aliases"):
        versions(alias="x")


# object stores


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    limit = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=2):
                break
        except OSError:
            assert time.monotonic() < limit
            time.sleep(0.2)
    yield url
    process.kill()
    process.wait()


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    environment = {
        "AWS_ENDPOINT_URL_S3": moto,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3", endpoint_url=moto).Bucket("models")
    bucket.create()
    return bucket


def test_s3(bucket: Any, tmp_path: Path) -> None:
    for name, data in CONTENT.items():
        bucket.put_object(Key=f"fraud/3/{name}", Body=data)
    bucket.put_object(Key="fraud/3/empty/", Body=b"")
    bucket.put_object(Key="fraud/3-old/MLmodel", Body=b"another model")
    bucket.put_object(Key="lone.onnx", Body=b"file")
    assert content(get("s3://models/fraud/3", tmp_path)) == CONTENT
    assert content(get("s3://models/lone.onnx", tmp_path)) == {"lone.onnx": b"file"}
    store = store_for("s3://models/fraud/3", QUICK)
    before = store.revision("s3://models/fraud/3")
    assert store.revision("s3://models/fraud/3") == before
    bucket.put_object(Key="fraud/3/MLmodel", Body=b"changed")
    assert store.revision("s3://models/fraud/3") != before
    assert content(get("s3://models/fraud/3", tmp_path))["MLmodel"] == b"changed"
    with pytest.raises(LoadFailed, match="s3://models/none: no such object"):
        get("s3://models/none", tmp_path)
    with pytest.raises(LoadFailed, match="S3 says 404"):
        get("s3://nowhere/none", tmp_path)
    bucket.put_object(Key="evil/../../x", Body=b"x")
    with pytest.raises(LoadFailed, match="not a path inside it"):
        get("s3://models/evil", tmp_path)


def test_s3_that_does_not_answer(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del bucket
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"S3 cannot be reached.*tried"):
        get("s3://models/x", tmp_path, RegistrySettings(retry_seconds=1))


class Gcs(http.server.BaseHTTPRequestHandler):
    """Listing in pages of one and media downloads, as Google's JSON interface has them."""

    objects: dict[str, bytes]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        _, _, name = url.path.partition("/o/")
        if name and query.get("alt") == "media":
            data = self.objects[unquote(name)]
            assert query["generation"] == str(sum(data))
            self._answer(200, data)
        elif "/b/models/o" in url.path:
            names = sorted(key for key in self.objects if key.startswith(query["prefix"]))
            at = int(query.get("pageToken") or 0)
            page = [
                {"name": key, "size": str(len(self.objects[key])), "generation": str(sum(self.objects[key]))}
                for key in names[at : at + 1]
            ]
            more = {"nextPageToken": str(at + 1)} if at + 1 < len(names) else {}
            self._answer(200, json.dumps({"items": page, **more}).encode())
        else:
            self._answer(404, b'{"message": "The specified bucket does not exist."}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_gcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Gcs.objects = {f"fraud/3/{name}": data for name, data in CONTENT.items()}
    Gcs.objects |= {"fraud/3/dir/": b"", "fraud/33": b"sibling"}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gcs) as fake:
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"127.0.0.1:{fake.server_port}")
        assert content(get("gs://models/fraud/3", tmp_path)) == CONTENT
        assert content(get("gs://models/fraud/33", tmp_path)) == {"33": b"sibling"}
        store = store_for("gs://models/fraud/3", QUICK)
        before = store.revision("gs://models/fraud/3")
        Gcs.objects["fraud/3/MLmodel"] = b"changed"
        assert store.revision("gs://models/fraud/3") != before
        with pytest.raises(LoadFailed, match="404: The specified bucket does not exist"):
            get("gs://nowhere/x", tmp_path)
        with pytest.raises(LoadFailed, match="no such object"):
            get("gs://models/nothing", tmp_path)
        fake.shutdown()


def test_gcs_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(LoadFailed, match="no Google credentials in the environment"):
        get("gs://models/x", tmp_path)


def test_unknown_schemes_and_policies_are_explained(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="no store for 'gopher'"):
        get("gopher://x/y", tmp_path)
    with pytest.raises(LoadFailed, match="versions are known of models:/name and of local folders only"):
        get("s3://a/b", tmp_path, versions=VersionPolicy(latest=1))
    with pytest.raises(LoadFailed, match="no such file or folder"):
        fetch(Resolved("1", "/nowhere", "/nowhere"), QUICK, tmp_path)
