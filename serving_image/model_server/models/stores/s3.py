"""`s3://bucket/prefix`, by boto3 (extra `s3`): its credentials, regions and retries are everybody's.

AWS_ENDPOINT_URL_S3 or, as MLflow has it, MLFLOW_S3_ENDPOINT_URL names another store than Amazon's.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from model_server.errors import LoadFailed
from model_server.models.source import Store, Unavailable
from model_server.models.stores.objects import StoredObject, bucket_and_key, files_of, place, revision_of
from model_server.models.transport import repeat

_CLIENT_FAULTS = range(400, 429)


class S3Store(Store):
    """Amazon S3 and what speaks like it."""

    def revision(self, location: str) -> str:
        """See Store.revision."""
        bucket, key = bucket_and_key(location)
        return revision_of(self._files(location, self._client(location), bucket, key))

    def download(self, location: str, into: Path) -> str:
        """See Store.download."""
        bucket, key = bucket_and_key(location)
        client = self._client(location)
        for path, item in self._files(location, client, bucket, key).items():
            to = place(into, path)
            self._call(location, partial(_get, client, bucket, item, to))
        return ""

    def _files(self, location: str, client: Any, bucket: str, key: str) -> dict[str, StoredObject]:
        files: dict[str, StoredObject] = self._call(
            location, lambda: files_of(location, key, _list(client, bucket, key))
        )
        return files

    def _client(self, location: str) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise LoadFailed(f"{location}: S3 needs the extra: pip install 'model-server[s3]'") from error
        timeout = self.registry.timeout_seconds
        # Repeats are ours, so that one setting rules them for every store.
        config = Config(connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1})
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("MLFLOW_S3_ENDPOINT_URL")
        return boto3.session.Session().client("s3", endpoint_url=endpoint, config=config)

    def _call(self, location: str, work: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        def attempt() -> Any:
            try:
                return work()
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                kind = LoadFailed if status in _CLIENT_FAULTS else Unavailable
                raise kind(f"{location}: S3 says {status}: {error}") from error
            except NoCredentialsError as error:
                raise LoadFailed(
                    f"{location}: no AWS credentials in the environment (AWS_ACCESS_KEY_ID, a role of the "
                    "machine or pod, …)"
                ) from error
            except (BotoCoreError, OSError) as error:
                raise Unavailable(f"{location}: S3 cannot be reached: {error}") from error

        return repeat(attempt, self.registry.retry_seconds)


def _list(client: Any, bucket: str, key: str) -> Iterator[StoredObject]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
        for item in page.get("Contents", []):
            yield StoredObject(item["Key"], item["ETag"], item["Size"])


def _get(client: Any, bucket: str, item: StoredObject, to: Path) -> None:
    # If-Match: the file that was listed, or none; never half of an old model and half of a new one.
    body = client.get_object(Bucket=bucket, Key=item.key, IfMatch=item.etag)["Body"]
    with to.open("wb") as file:
        for chunk in body.iter_chunks(1 << 20):
            file.write(chunk)
        if file.tell() != item.size:
            raise OSError(f"{item.key} broke off: got {file.tell()} bytes, expected {item.size}")
