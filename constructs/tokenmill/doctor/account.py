"""What the account says: credentials, bootstrap, quota, keys. Every look-up is short and ends in a state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from tokenmill.doctor.item import Item, State
from tokenmill.doctor.quotas import endpoint_quota_code, quota_name

if TYPE_CHECKING:
    import boto3

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

    def quota(self, instance: str, *, needed: int) -> Item:
        """Say whether the SageMaker endpoint quota of an instance type suffices.

        Args:
            instance: Hosting instance type.
            needed: Instances at the largest size the stack may scale to.
        """
        name = f"quota for {needed} x {instance}"
        code = endpoint_quota_code(instance)
        request = self._quota_command(instance, code, needed)
        if not self.number:
            return _needs_credentials(name, request)
        try:
            quota = self._find_quota(instance, code)
            if quota is None:
                detail = f"{self._region} has no quota {quota_name(instance)!r}"
                return Item(name=name, state=State.UNKNOWN, detail=detail, command=request)
            request = self._quota_command(instance, quota["QuotaCode"], needed)
            if quota["Value"] >= needed:
                return Item(name=name, state=State.OK, detail=f"{quota['Value']:g} ({quota['QuotaCode']})")
            asked = self._requested(quota["QuotaCode"])
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

    def _find_quota(self, instance: str, code: str) -> Any:
        client = self._client("service-quotas")
        if code:
            try:
                return client.get_service_quota(ServiceCode="sagemaker", QuotaCode=code)["Quota"]
            except ClientError as error:
                if _code(error) != _NO_QUOTA:
                    raise
        name = quota_name(instance)
        for page in client.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker"):
            for quota in page["Quotas"]:
                if quota["QuotaName"] == name:
                    return quota
        return None

    def _requested(self, code: str) -> float:
        history = self._client("service-quotas").list_requested_service_quota_change_history_by_quota(
            ServiceCode="sagemaker", QuotaCode=code
        )["RequestedQuotas"]
        return max((entry["DesiredValue"] for entry in history if entry["Status"] in _PENDING), default=0.0)

    def _quota_command(self, instance: str, code: str, needed: int) -> str:
        if not code:
            query = f"Quotas[?QuotaName=='{quota_name(instance)}']"
            return (
                f'aws service-quotas list-service-quotas --service-code sagemaker --query "{query}" '
                f"--region {self._region}"
            )
        return (
            "aws service-quotas request-service-quota-increase --service-code sagemaker "
            f"--quota-code {code} --desired-value {needed} --region {self._region}"
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
