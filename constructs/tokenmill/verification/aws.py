"""One run's way to AWS: clients, waits with an end, tags, and whether it is AWS that answers."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from tokenmill.core.errors import TokenmillError
from tokenmill.verification.ledger import Entry, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

TAG = "tokenmill:verify"
# Any of them going elsewhere makes a run local.
_TELLING = (
    "sts", "sagemaker", "lambda", "cloudwatch", "pricing", "service-quotas", "bedrock-runtime",
    "cloudformation", "codebuild", "stepfunctions", "application-autoscaling", "bedrock", "bedrock-agent",
    "ssm",
)  # fmt: skip
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_CONFIG = Config(connect_timeout=10, read_timeout=70, retries={"mode": "standard", "total_max_attempts": 4})
_ABSENT = {
    "NoSuchBucket", "NoSuchEntity", "NotFoundException", "ResourceNotFoundException", "ResourceNotFound",
    "NoSuchKey", "404", "ObjectNotFoundException", "RepositoryNotFoundException", "StateMachineDoesNotExist",
    "AWS.SimpleQueueService.NonExistentQueue",
}  # fmt: skip
_ABSENT_WORDS = (
    "could not find",
    "does not exist",
    "cannot find",
    "no scalable target",
    "resource not found",
)


class ProbeTimeoutError(Exception):
    """Something took longer than the probe may wait; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient a run is.

    Args:
        poll_seconds: Between two looks at something that takes time.
        settle_seconds: How long a new role is given to become known everywhere.
    """

    poll_seconds: float = 15.0
    settle_seconds: float = 90.0


class Aws:
    """One run in one account and region.

    Args:
        session: A boto3 session with credentials.
        region: AWS region.
        run: A short word that is in every name.
        ledger: Where resources are written down first.
        pace: How patient to be.

    Raises:
        TokenmillError: There are no credentials, or nobody answers.
    """

    def __init__(self, session: boto3.Session, *, region: str, run: str, ledger: Ledger, pace: Pace) -> None:
        self._session = session
        self._ledger = ledger
        self._deadline = float("inf")
        self._clients: dict[tuple[str, str], Any] = {}
        self.region = region
        self.run = run
        self.pace = pace
        try:
            identity = self.client("sts").get_caller_identity()
        except NoCredentialsError:
            raise TokenmillError("no AWS credentials found; set some up with: aws configure sso") from None
        except (ClientError, BotoCoreError) as error:
            raise TokenmillError(f"cannot ask AWS who you are: {error}") from error
        self.account: str = identity["Account"]
        self.partition: str = identity["Arn"].split(":")[1]

    @cached_property
    def endpoint(self) -> str:
        """Where the first call goes that differs from AWS's own address, or AWS's address."""
        urls = [str(self.client(service).meta.endpoint_url) for service in _TELLING]
        return next((url for url in urls if not _is_aws(url)), urls[0])

    @property
    def local(self) -> bool:
        """Whether something else than AWS answers; nothing that it says is evidence about an account."""
        return not _is_aws(self.endpoint)

    @property
    def credentials(self) -> Any:
        """The credentials, for requests that are signed by hand."""
        return self._session.get_credentials()

    @property
    def tags(self) -> list[dict[str, str]]:
        """The tag on everything that a run creates."""
        return [{"Key": TAG, "Value": self.run}]

    def client(self, service: str, *, region: str = "") -> Any:
        """Return a client.

        Args:
            service: boto3's name of the service.
            region: AWS region, for a service that is not in all of them; empty for the run's own.
        """
        key = (service, region or self.region)
        if key not in self._clients:
            make: Any = self._session.client
            self._clients[key] = make(service, region_name=key[1], config=_CONFIG)
        return self._clients[key]

    def client_as(self, role: str, service: str) -> Any:
        """Return a client with the rights of a role that this account may assume.

        Args:
            role: The role's ARN.
            service: boto3's name of the service.
        """
        session = f"tokenmill-verify-{self.run}"
        found = self.settle(
            lambda: self.client("sts").assume_role(RoleArn=role, RoleSessionName=session),
            codes=("AccessDenied",),
        )["Credentials"]
        make: Any = self._session.client
        return make(
            service,
            region_name=self.region,
            config=_CONFIG,
            aws_access_key_id=found["AccessKeyId"],
            aws_secret_access_key=found["SecretAccessKey"],
            aws_session_token=found["SessionToken"],
        )

    def name(self, suffix: str) -> str:
        """Return a name that says whose it is.

        Args:
            suffix: What it is.
        """
        return f"tokenmill-verify-{self.run}-{suffix}"

    def declare(self, kind: str, name: str) -> None:
        """Write a resource into the ledger, before it is created.

        Args:
            kind: Which deletion it needs.
            name: Its name.
        """
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entry = Entry(
            kind=kind,
            name=name,
            account=self.account,
            region=self.region,
            endpoint=self.endpoint,
            created=created,
        )
        self._ledger.add(entry)

    def allow(self, seconds: float) -> None:
        """Let every wait end when this time is over, however long it was to be.

        Args:
            seconds: From now.
        """
        self._deadline = time.monotonic() + seconds

    def wait(self, what: str, look: Callable[[], Any], *, seconds: float) -> Any:
        """Look again and again until there is something to see, and return it.

        Args:
            what: What is waited for, for the message.
            look: Returns something true when it is there.
            seconds: How long at most.

        Raises:
            ProbeTimeoutError: It did not come in time.
        """
        end = min(time.monotonic() + seconds, self._deadline)
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() + self.pace.poll_seconds > end:
                raise ProbeTimeoutError(f"{what} did not happen in time")
            time.sleep(self.pace.poll_seconds)

    def settle(self, call: Callable[[], Any], *, codes: tuple[str, ...]) -> Any:
        """Make a call that fails until a new role is known everywhere.

        Args:
            call: The call.
            codes: Error codes that may mean so.
        """
        end = min(time.monotonic() + self.pace.settle_seconds, self._deadline)
        while True:
            try:
                return call()
            except ClientError as error:
                role_is_new = error.response["Error"]["Code"] in codes and "role" in str(error).lower()
                if not role_is_new or time.monotonic() + self.pace.poll_seconds > end:
                    raise
            time.sleep(self.pace.poll_seconds)


def is_absent(error: ClientError) -> bool:
    """Return whether an error says that the thing is not there.

    Args:
        error: What a client raised.
    """
    if error.response["Error"]["Code"] in _ABSENT:
        return True
    return any(words in error.response["Error"].get("Message", "").lower() for words in _ABSENT_WORDS)


def _is_aws(url: str) -> bool:
    return (urlsplit(url).hostname or "").endswith(_AWS_HOSTS)
