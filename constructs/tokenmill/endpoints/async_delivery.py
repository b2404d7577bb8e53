"""Where an asynchronous endpoint's requests wait, and where its answers and failures go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.core._checks import as_whole, as_whole_or_none
from tokenmill.core.errors import TokenmillError
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.bucket import private_bucket
from tokenmill.security.printed import printed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3
    from aws_cdk import aws_sagemaker as sagemaker
    from aws_cdk import aws_sns as sns

    from tokenmill.endpoints.serving import Serving

# "AsyncInferenceClientConfig", Amazon SageMaker API Reference.
MOST_CONCURRENT = 1000
TOPICS = {"success": "SUCCESS_NOTIFICATION_TOPIC", "error": "ERROR_NOTIFICATION_TOPIC"}
REQUESTS, ANSWERS, FAILURES = "requests", "answers", "failures"
REASON = (
    "Requests and answers get their names while the endpoint runs; the role reaches its own folders only."
)
# What may stand in a lifecycle rule's expiration ("PutBucketLifecycleConfiguration", Amazon S3).
MOST_KEEP_DAYS = 2_147_483_647


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncDelivery:
    """How answers reach callers.

    Args:
        bucket: Where requests, answers and failures stand; one of the endpoint's own otherwise.
        keep_days: After how many days objects of the endpoint's own bucket go. A given bucket keeps its own
            rules.
        encryption_key: The key of the endpoint's own bucket and topics; S3's and SNS's own keys otherwise.
        success_topic: Who is told of answers; a topic of the endpoint's own otherwise.
        error_topic: Who is told of failures; a topic of the endpoint's own otherwise.
        include_response: Topics whose messages carry the answer itself, up to 128 KB: "success", "error".
        max_concurrent: Requests that SageMaker has in an instance at once, 1 to 1000; the batch that the
            serving decodes together otherwise.

    Raises:
        TokenmillError: If a number or a topic's name is out of its range.
    """

    bucket: s3.IBucket | None = None
    keep_days: int = 30
    encryption_key: kms.IKey | None = None
    success_topic: sns.ITopic | None = None
    error_topic: sns.ITopic | None = None
    include_response: tuple[str, ...] = ()
    max_concurrent: int | None = None

    def __post_init__(self) -> None:
        as_whole(self, "keep_days")
        as_whole_or_none(self, "max_concurrent")
        if not 1 <= self.keep_days <= MOST_KEEP_DAYS:
            raise TokenmillError(f"delivery.keep_days is {self.keep_days}; it must be 1 or more")
        if self.max_concurrent is not None and not 1 <= self.max_concurrent <= MOST_CONCURRENT:
            raise TokenmillError(
                f"delivery.max_concurrent is {self.max_concurrent}; SageMaker takes 1 to {MOST_CONCURRENT}"
            )
        unknown = [name for name in self.include_response if name not in TOPICS]
        if unknown or len(set(self.include_response)) != len(self.include_response):
            raise TokenmillError(
                f"delivery.include_response is {self.include_response!r}; give each of "
                f"{', '.join(TOPICS)} once at most"
            )

    def concurrent(self, serving: Serving) -> int:
        """Return how many requests SageMaker has in an instance at once.

        One container has the whole instance in single-variant mode, so this is its batch: fewer leave it
        half empty, more wait inside the container, where no metric sees them.

        Args:
            serving: What the endpoint serves.
        """
        return self.max_concurrent or min(MOST_CONCURRENT, serving.max_sequences)


class AsyncMailbox(Construct):
    """The bucket and the topics of an asynchronous endpoint.

    Args:
        scope: The endpoint.
        id: The construct's id.
        delivery: What is given and what is to be made.
    """

    def __init__(self, scope: Construct, id: str, *, delivery: AsyncDelivery) -> None:
        super().__init__(scope, id)
        self.delivery = delivery
        self.bucket: s3.IBucket = delivery.bucket or private_bucket(
            self,
            "Bucket",
            reason_without_access_log="Requests and answers of one endpoint, read by its callers only; "
            f"they go after {delivery.keep_days} days.",
            encryption_key=delivery.encryption_key,
            expire_days=delivery.keep_days,
        )
        self.success_topic = delivery.success_topic or self._topic("Succeeded")
        self.error_topic = delivery.error_topic or self._topic("Failed")
        # Two endpoints may share a bucket, and a folder each keeps their grants apart.
        self.folder = f"async-{self.node.addr[-12:]}" if delivery.bucket is not None else "async"

    @property
    def bucket_key(self) -> kms.IKey | None:
        """The customer's key of the bucket's objects, if there is one."""
        return self.bucket.encryption_key

    def prefix(self, kind: str) -> str:
        """Return a folder of the bucket, without a slash at either end.

        Args:
            kind: "requests", "answers" or "failures".
        """
        return f"{self.folder}/{kind}"

    def uri(self, kind: str) -> str:
        """Return a folder of the bucket as s3://bucket/folder.

        Args:
            kind: "requests", "answers" or "failures".
        """
        return self.bucket.s3_url_for_object(self.prefix(kind))

    def objects(self, *kinds: str) -> list[str]:
        """Return the ARNs of everything in folders of the bucket.

        Args:
            kinds: "requests", "answers", "failures".
        """
        return [self.bucket.arn_for_objects(f"{self.prefix(kind)}/*") for kind in kinds]

    def property(self, serving: Serving) -> sagemaker.CfnEndpointConfig.AsyncInferenceConfigProperty:
        """Return the property of the endpoint configuration.

        Args:
            serving: What the endpoint serves.
        """
        from aws_cdk import aws_sagemaker as sagemaker

        config = sagemaker.CfnEndpointConfig
        key = self.bucket_key
        return config.AsyncInferenceConfigProperty(
            client_config=config.AsyncInferenceClientConfigProperty(
                max_concurrent_invocations_per_instance=self.delivery.concurrent(serving)
            ),
            output_config=config.AsyncInferenceOutputConfigProperty(
                s3_output_path=self.uri(ANSWERS),
                s3_failure_path=self.uri(FAILURES),
                kms_key_id=None if key is None else key.key_arn,
                notification_config=config.AsyncInferenceNotificationConfigProperty(
                    success_topic=self.success_topic.topic_arn,
                    error_topic=self.error_topic.topic_arn,
                    include_inference_response_in=[TOPICS[name] for name in self.delivery.include_response]
                    or None,
                ),
            ),
        )

    def grant_deliver(self, role: iam.IRole) -> None:
        """Let the containers' role read requests, write answers and failures, and tell the topics.

        "Complete the prerequisites" of asynchronous inference (Amazon SageMaker AI developer guide) gives the
        role GetObject, PutObject, AbortMultipartUpload, ListBucket and Publish; here each has its folder.

        Args:
            role: The endpoint's role.
        """
        self.allow_objects(role, actions.ASYNC_REQUEST_READ, REQUESTS)
        self.allow_objects(role, actions.ASYNC_ANSWER_WRITE, ANSWERS, FAILURES)
        self.allow_listing(role)
        topics = [self.success_topic.topic_arn, self.error_topic.topic_arn]
        role.add_to_principal_policy(
            iam.PolicyStatement(actions=list(actions.ASYNC_NOTIFY), resources=topics)
        )
        for key in self._keys():
            key.grant(role, *actions.OBJECT_KEY_WRITE)
        self.argue(role, REQUESTS, ANSWERS, FAILURES)

    def allow_objects(self, grantee: iam.IGrantable, allowed: Sequence[str], *kinds: str) -> iam.Grant:
        """Let a principal do something with the objects of folders.

        Args:
            grantee: The principal.
            allowed: The actions.
            kinds: "requests", "answers", "failures".
        """
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=list(allowed), resource_arns=self.objects(*kinds)
        )

    def allow_listing(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal see which objects there are in the endpoint's folder.

        Without it, S3 says 403 of an object that is not there ("HeadObject", Amazon S3).

        Args:
            grantee: The principal.
        """
        return iam.Grant.add_to_principal(
            grantee=grantee,
            actions=list(actions.ASYNC_BUCKET_LIST),
            resource_arns=[self.bucket.bucket_arn],
            conditions={"StringLike": {"s3:prefix": f"{self.folder}/*"}},
        )

    def argue(self, role: iam.IRole, *kinds: str) -> None:
        """Acknowledge that a role of the library reaches every object of folders.

        Args:
            role: The role.
            kinds: "requests", "answers", "failures".
        """
        bucket = printed(self, self.bucket.bucket_arn)
        acknowledge(role, {any_resource(f"{bucket}/{self.prefix(kind)}/*"): REASON for kind in kinds})

    def _keys(self) -> list[kms.IKey]:
        """The customer's keys, each once: of the bucket, and of the topics."""
        given = [topic for topic in (self.delivery.success_topic, self.delivery.error_topic) if topic]
        found = [self.bucket_key, self.delivery.encryption_key, *(topic.master_key for topic in given)]
        return list({key.node.addr: key for key in found if key is not None}.values())

    def _topic(self, id: str) -> sns.Topic:
        from aws_cdk import aws_kms as kms
        from aws_cdk import aws_sns as sns

        # The role of the account publishes, so SNS's own key serves ("Encrypting Amazon SNS topics").
        key = self.delivery.encryption_key or kms.Alias.from_alias_name(self, f"{id}Key", "alias/aws/sns")
        return sns.Topic(self, id, master_key=key, enforce_ssl=True)
