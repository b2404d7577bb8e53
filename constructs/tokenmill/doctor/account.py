"""What the account says: credentials, bootstrap, quota, keys. Every look-up is short and ends in a state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from tokenmill.doctor.item import Item, State
from tokenmill_runtime.compiled_artifact import RUN_COMMAND, artifact_key, manifest_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    import boto3

    from tokenmill.doctor.quotas import Quota


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A model that a serving stack expects to be compiled ahead of time.

    Args:
        stack: CloudFormation's name of the stack that compiles it.
        bucket: Name of the export of the bucket.
        prefix: Folder of what is compiled.
        repository: Name of the export of the image's repository.
        tag: The image's tag.
        artifact: What it is compiled for, without the image's digest.
    """

    stack: str
    bucket: str
    prefix: str
    repository: str
    tag: str
    artifact: Mapping[str, Any]


# The template's own check (CheckBootstrapVersion) asks for 6; the lookup role needs 8.
BOOTSTRAP_PARAMETER = "/cdk-bootstrap/hnb659fds/version"
BOOTSTRAP_VERSION = 6
_QUICK = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
_PENDING = ("PENDING", "CASE_OPENED")
_NO_QUOTA = "NoSuchResourceException"


class Account:
    """Look-ups in one account and region.

    Args:
        session: A boto3 session; `AWS_ENDPOINT_URL` is honoured.
        region: AWS region.
    """

    def __init__(self, session: boto3.Session, region: str) -> None:
        self._session = session
        self._region = region
        self.number = ""
        self._listed: dict[str, dict[str, Any]] = {}

    def credentials(self) -> Item:
        """Say whose credentials these are, and remember the account's number."""
        command = "aws configure sso, or export AWS_PROFILE"
        try:
            identity = self._client("sts").get_caller_identity()
        except NoCredentialsError:
            return Item(name="credentials", state=State.TO_DO, detail="none found", command=command)
        except (ClientError, BotoCoreError) as error:
            return Item(name="credentials", state=State.UNKNOWN, detail=_short(error), command=command)
        self.number = identity["Account"]
        detail = f"account {self.number}, {identity['Arn']}"
        endpoint = self._client("sts").meta.endpoint_url
        if not endpoint.endswith((".amazonaws.com", ".amazonaws.com.cn")):
            detail += f"; answered by {endpoint}, not by AWS"
        return Item(name="credentials", state=State.OK, detail=detail)

    def bootstrap(self) -> Item:
        """Say whether the CDK's bootstrap stack is there and new enough."""
        command = f"npx cdk bootstrap aws://{self.number or 'ACCOUNT'}/{self._region}"
        if not self.number:
            return _needs_credentials("bootstrap", command)
        try:
            found = self._client("ssm").get_parameter(Name=BOOTSTRAP_PARAMETER)["Parameter"]["Value"]
        except ClientError as error:
            if _code(error) != "ParameterNotFound":
                return Item(name="bootstrap", state=State.UNKNOWN, detail=_short(error), command=command)
            return Item(name="bootstrap", state=State.TO_DO, detail=f"not in {self._region}", command=command)
        except BotoCoreError as error:
            return Item(name="bootstrap", state=State.UNKNOWN, detail=_short(error), command=command)
        if int(found) < BOOTSTRAP_VERSION:
            detail = f"version {found} is too old, {BOOTSTRAP_VERSION} is needed"
            return Item(name="bootstrap", state=State.TO_DO, detail=detail, command=command)
        return Item(name="bootstrap", state=State.OK, detail=f"version {found} in {self._region}")

    def quota(self, wanted: Quota, *, needed: float, title: str = "") -> Item:
        """Say whether a quota suffices.

        Args:
            wanted: The quota.
            needed: How much at the largest size the stack may scale to.
            title: What the item is called; the quota's name otherwise.
        """
        name = title or f"quota for {needed:g}: {wanted.name}"
        request = self._quota_command(wanted, wanted.code, needed)
        if not self.number:
            return _needs_credentials(name, request)
        try:
            quota = self._find_quota(wanted)
            if quota is None:
                detail = f"{self._region} has no quota {wanted.name!r}"
                return Item(name=name, state=State.UNKNOWN, detail=detail, command=request)
            request = self._quota_command(wanted, quota["QuotaCode"], needed)
            if quota["Value"] >= needed:
                return Item(name=name, state=State.OK, detail=f"{quota['Value']:g} ({quota['QuotaCode']})")
            asked = self._requested(wanted.service, quota["QuotaCode"])
        except (ClientError, BotoCoreError) as error:
            return Item(name=name, state=State.UNKNOWN, detail=_short(error), command=request)
        detail = f"{quota['Value']:g} now ({quota['QuotaCode']})"
        if asked >= needed:
            return Item(name=name, state=State.TO_DO, detail=f"{detail}; {asked:g} requested, wait for AWS")
        return Item(name=name, state=State.TO_DO, detail=detail, command=request)

    def keys(self, stack: str, *, stack_id: str) -> Item:
        """Say whether the deployed gateway has an API key that is not revoked.

        Args:
            stack: Name of the settings' section.
            stack_id: CloudFormation's name of the stack.
        """
        command = f"tokenmill keys create {stack}"
        later = Item(
            name="api key",
            state=State.TO_DO,
            detail="made after the deploy",
            command=command,
            after_deploy=True,
        )
        if not self.number:
            return later
        try:
            stacks = self._client("cloudformation").describe_stacks(StackName=stack_id)["Stacks"]
            outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in stacks[0].get("Outputs", [])}
            pages = self._client("dynamodb").get_paginator("scan").paginate(TableName=outputs["ApiKeyTable"])
            keys = [item for page in pages for item in page["Items"] if not item["revoked"]["BOOL"]]
        except (ClientError, KeyError):
            return later
        except BotoCoreError as error:
            return Item(name="api key", state=State.UNKNOWN, detail=_short(error), command=command)
        if keys:
            return Item(name="api key", state=State.OK, detail=f"{len(keys)} in use")
        return Item(
            name="api key", state=State.TO_DO, detail="the deployed gateway has none", command=command
        )

    def secret(self, name: str) -> Item:
        """Say whether a secret is there that the templates name and do not make.

        Args:
            name: Its name or ARN.
        """
        item = f"secret {name}"
        command = (
            f"aws secretsmanager create-secret --name {name} --secret-string file://token.txt "
            f"--region {self._region}"
        )
        if not self.number:
            return _needs_credentials(item, command)
        try:
            self._client("secretsmanager").describe_secret(SecretId=name)
        except ClientError as error:
            if _code(error) != "ResourceNotFoundException":
                return Item(name=item, state=State.UNKNOWN, detail=_short(error), command=command)
            return Item(name=item, state=State.TO_DO, detail=f"not in {self._region}", command=command)
        except BotoCoreError as error:
            return Item(name=item, state=State.UNKNOWN, detail=_short(error), command=command)
        return Item(name=item, state=State.OK, detail=f"in {self._region}")

    def compiled(self, wanted: Compiled) -> Item:
        """Say whether the model that a stack serves has been compiled, by the image that will serve it.

        Args:
            wanted: What the template asks for.
        """
        name = f"compiled model of {wanted.stack}"
        run = f"{RUN_COMMAND} --stack {wanted.stack}"
        if not self.number:
            return _needs_credentials(name, run)
        try:
            exports = self._exports()
            if not {wanted.bucket, wanted.repository} <= set(exports):
                detail = f"stack {wanted.stack}, which compiles it, is not deployed"
                return Item(
                    name=name, state=State.TO_DO, detail=detail, command=f"npx cdk deploy {wanted.stack}"
                )
            digest = self._digest(exports[wanted.repository], wanted.tag)
            key = artifact_key({**wanted.artifact, "image_digest": digest})
            self._client("s3").head_object(
                Bucket=exports[wanted.bucket], Key=manifest_key(wanted.prefix, key)
            )
        except ClientError as error:
            if _code(error) == "ImageNotFoundException":
                detail = f"image {wanted.tag} is not in its repository"
                return Item(
                    name=name, state=State.TO_DO, detail=detail, command=f"npx cdk deploy {wanted.stack}"
                )
            if _code(error) not in ("404", "NoSuchKey"):
                return Item(name=name, state=State.UNKNOWN, detail=_short(error), command=run)
            return Item(name=name, state=State.TO_DO, detail="not compiled yet", command=run)
        except (BotoCoreError, ValueError) as error:
            return Item(name=name, state=State.UNKNOWN, detail=_short(error), command=run)
        return Item(name=name, state=State.OK, detail=f"key {key[:12]}")

    def _exports(self) -> dict[str, str]:
        pages = self._client("cloudformation").get_paginator("list_exports").paginate()
        return {export["Name"]: export["Value"] for page in pages for export in page["Exports"]}

    def _digest(self, repository: str, tag: str) -> str:
        found = self._client("ecr").describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
        return str(found["imageDetails"][0]["imageDigest"])

    def _find_quota(self, wanted: Quota) -> Any:
        client = self._client("service-quotas")
        if wanted.code:
            try:
                return client.get_service_quota(ServiceCode=wanted.service, QuotaCode=wanted.code)["Quota"]
            except ClientError as error:
                if _code(error) != _NO_QUOTA:
                    raise
        return self._quotas(wanted.service).get(wanted.name)

    def _quotas(self, service: str) -> dict[str, Any]:
        """The quotas of a service by name, listed once: SageMaker has thousands."""
        if service not in self._listed:
            pages = self._client("service-quotas").get_paginator("list_service_quotas")
            self._listed[service] = {
                quota["QuotaName"]: quota
                for page in pages.paginate(ServiceCode=service)
                for quota in page["Quotas"]
            }
        return self._listed[service]

    def _requested(self, service: str, code: str) -> float:
        history = self._client("service-quotas").list_requested_service_quota_change_history_by_quota(
            ServiceCode=service, QuotaCode=code
        )["RequestedQuotas"]
        return max((entry["DesiredValue"] for entry in history if entry["Status"] in _PENDING), default=0.0)

    def _quota_command(self, wanted: Quota, code: str, needed: float) -> str:
        if not code:
            query = f"Quotas[?QuotaName=='{wanted.name}']"
            return (
                f"aws service-quotas list-service-quotas --service-code {wanted.service} "
                f'--query "{query}" --region {self._region}'
            )
        return (
            f"aws service-quotas request-service-quota-increase --service-code {wanted.service} "
            f"--quota-code {code} --desired-value {needed:g} --region {self._region}"
        )

    def _client(self, service: str) -> Any:
        make: Any = self._session.client
        return make(service, region_name=self._region, config=_QUICK)


def _needs_credentials(name: str, command: str) -> Item:
    return Item(name=name, state=State.UNKNOWN, detail="needs credentials", command=command)


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _short(error: Exception) -> str:
    return str(error).splitlines()[0]
