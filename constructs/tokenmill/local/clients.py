"""What our services do as clients of the local cloud itself: S3 objects, SNS messages, images in ECR.

They call the cloud's own endpoint through boto3, as any client does, and therefore never on its event loop.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from tokenmill.local.aws_requests import AwsError, Scope
from tokenmill.local.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable


class Objects(Protocol):
    """Objects in S3, named by `s3://bucket/key`."""

    def get(self, scope: Scope, uri: str) -> tuple[bytes, str]:
        """Return an object's body and content type."""

    def put(self, scope: Scope, uri: str, body: bytes, content_type: str) -> None:
        """Write an object."""

    def under(self, scope: Scope, uri: str) -> list[str]:
        """Return the URIs of every object under a prefix, sorted."""


class Images(Protocol):
    """Images in the account's registry."""

    def push(self, scope: Scope, repository: str, tag: str, manifest: str) -> str:
        """Push a manifest under a tag; return its digest."""


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an S3 URI.

    Args:
        uri: `s3://bucket/key`.

    Raises:
        AwsError: It is of another form.
    """
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise AwsError("ValidationException", f"{uri!r} is not an S3 URI; write s3://BUCKET/KEY")
    return parts.netloc, parts.path.lstrip("/")


class CloudClients:
    """boto3 clients of the cloud, one a service, account and region."""

    def __init__(self) -> None:
        self._clients: dict[tuple[Scope, str], Any] = {}
        self._lock = threading.Lock()

    def client(self, scope: Scope, service: str) -> Any:
        """Return a client.

        Args:
            scope: As whom it calls.
            service: boto3's name of the service.
        """
        with self._lock:
            if (scope, service) not in self._clients:
                self._clients[(scope, service)] = self._new(scope, service)
            return self._clients[(scope, service)]

    def _new(self, scope: Scope, service: str) -> Any:
        import boto3

        make: Any = boto3.client  # its overloads want a literal name
        return make(
            service,
            endpoint_url=f"http://{LOOPBACK}:{os.environ['GATEWAY_PORT']}",
            region_name=scope.region,
            aws_access_key_id=scope.account,
            aws_secret_access_key="local",
        )


class CloudObjects:
    """Objects in the cloud's S3.

    Args:
        clients: Where the S3 clients come from.
    """

    def __init__(self, clients: CloudClients) -> None:
        self._clients = clients

    def get(self, scope: Scope, uri: str) -> tuple[bytes, str]:
        """Return an object's body and content type.

        Args:
            scope: As whom.
            uri: The object.

        Raises:
            AwsError: S3 refuses.
        """
        bucket, key = split_uri(uri)
        answer = self._call(scope, uri, lambda s3: s3.get_object(Bucket=bucket, Key=key))
        with answer["Body"] as body:
            return body.read(), str(answer.get("ContentType") or "application/octet-stream")

    def put(self, scope: Scope, uri: str, body: bytes, content_type: str) -> None:
        """Write an object.

        Args:
            scope: As whom.
            uri: The object.
            body: Its bytes.
            content_type: Its MIME type.

        Raises:
            AwsError: S3 refuses.
        """
        bucket, key = split_uri(uri)
        self._call(
            scope,
            uri,
            lambda s3: s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type),
        )

    def under(self, scope: Scope, uri: str) -> list[str]:
        """Return the URIs of every object under a prefix, sorted.

        Args:
            scope: As whom.
            uri: The prefix.

        Raises:
            AwsError: S3 refuses.
        """
        bucket, prefix = split_uri(uri)
        pages = self._call(
            scope,
            uri,
            lambda s3: list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)),
        )
        return sorted(f"s3://{bucket}/{found['Key']}" for page in pages for found in page.get("Contents", []))

    def _call(self, scope: Scope, uri: str, run: Callable[[Any], Any]) -> Any:
        import botocore.exceptions

        try:
            return run(self._clients.client(scope, "s3"))
        except botocore.exceptions.ClientError as error:
            told = error.response["Error"]
            raise AwsError(
                told.get("Code", "S3Error"), f"{uri}: {told.get('Message', 'S3 refuses')}"
            ) from error


class CloudImages:
    """Images in the cloud's ECR.

    Args:
        clients: Where the ECR clients come from.
    """

    def __init__(self, clients: CloudClients) -> None:
        self._clients = clients

    def push(self, scope: Scope, repository: str, tag: str, manifest: str) -> str:
        """Push a manifest under a tag; the same manifest under the same immutable tag is no error.

        Args:
            scope: Whose registry.
            repository: Name of the repository, which must exist.
            tag: The tag.
            manifest: An OCI image manifest.

        Raises:
            AwsError: ECR refuses.
        """
        import botocore.exceptions

        ecr = self._clients.client(scope, "ecr")
        try:
            answer = ecr.put_image(repositoryName=repository, imageTag=tag, imageManifest=manifest)
        except ecr.exceptions.ImageTagAlreadyExistsException as error:
            [image] = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": tag}])["images"]
            if image["imageManifest"] != manifest:
                raise AwsError(
                    "ImageTagAlreadyExistsException",
                    f"tag {tag} of repository {repository} is immutable and names another image",
                ) from error
            return str(image["imageId"]["imageDigest"])
        except botocore.exceptions.ClientError as error:
            told = error.response["Error"]
            raise AwsError(told.get("Code", "EcrError"), f"{repository}: {told.get('Message')}") from error
        return str(answer["image"]["imageId"]["imageDigest"])
