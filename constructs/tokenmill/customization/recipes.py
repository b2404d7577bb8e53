"""How a model is customized: fine-tuned on examples, or taught by a larger one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tokenmill.core._checks import numeric, text, whole
from tokenmill.core._kinds import BUCKET, KEY, flags, resource, text_map, texts
from tokenmill.core.errors import TokenmillError
from tokenmill.customization.sources import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3

# botocore, bedrock: TeacherModelIdentifier without ARNs.
MODEL_ID = re.compile(r"[a-z0-9-]{1,63}[.][a-z0-9-]{1,63}([.]?[a-z0-9-]{1,63})*([:][a-z0-9-]{1,63}){0,2}")
# botocore, bedrock: Validators.
MOST_VALIDATORS = 10
# botocore, bedrock: RequestMetadataFiltersList, RequestMetadataMapKeyString, RequestMetadataMapValueString.
MOST_FILTERS = 16
METADATA = re.compile(r"[a-zA-Z0-9\s._:/=+$@-]{1,256}")
# What is left of an S3Uri's 1,024 characters after the longest bucket's name.
LONGEST_OBJECT = 950
MOST_STEPS, MOST_TOKENS = 1_000_000, 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """Fine-tuning on labelled examples.

    What a model takes, and within which bounds, stands in "Custom model hyperparameters" (Amazon Bedrock user
    guide); what is left out has the model's default.

    Args:
        epochs: How often the examples are gone through.
        batch_size: Examples in one step.
        learning_rate: The rate of the steps.
        warmup_steps: Steps until the rate is reached.
        more: Further hyperparameters by the model's own names.

    Raises:
        TokenmillError: For a number out of any model's bounds, or one that is given twice.
    """

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    warmup_steps: int | None = None
    more: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("warmup_steps", 0)):
            value = getattr(self, name)
            if value is not None and not least <= whole(name, value) <= MOST_STEPS:
                raise TokenmillError(
                    f"{name} is {value}; it must be {least} or more and at most {MOST_STEPS:,}"
                )
        if self.learning_rate is not None:
            numeric(self, "learning_rate")
            if not 0 < self.learning_rate < 1:
                raise TokenmillError(f"learning_rate is {self.learning_rate}; it must be between 0 and 1")
        text_map("more", self.more)
        twice = sorted(set(self.more) & set(self._own()))
        if twice:
            raise TokenmillError(f"{', '.join(twice)} stands in more and in a field of its own; give it once")

    @property
    def hyperparameters(self) -> dict[str, str]:
        """The job's hyperparameters, every value a text."""
        return {**self._own(), **self.more}

    def _own(self) -> dict[str, str]:
        named = {
            "epochCount": self.epochs,
            "batchSize": self.batch_size,
            "learningRate": self.learning_rate,
            "learningRateWarmupSteps": self.warmup_steps,
        }
        return {name: str(value) for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """A large model's answers teach a small one.

    "Customize a model with distillation in Amazon Bedrock" (Amazon Bedrock user guide): Bedrock asks the
    teacher for answers to the prompts and fine-tunes the student on them.

    Args:
        teacher: The teacher: a foundation model's id, or that of a cross-region profile of one.
        max_response_tokens: Tokens that the teacher may answer with, 1 or more.

    Raises:
        TokenmillError: If the teacher is no model's id or the number is out of bounds.
    """

    teacher: str
    max_response_tokens: int = 1000

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, str) or not MODEL_ID.fullmatch(self.teacher):
            raise TokenmillError(
                f"teacher is {self.teacher!r:.80}; give the id of a foundation model or of a cross-region "
                "profile, such as 'us.amazon.nova-premier-v1:0'"
            )
        if not 1 <= whole("max_response_tokens", self.max_response_tokens) <= MOST_TOKENS:
            raise TokenmillError(
                f"max_response_tokens is {self.max_response_tokens}; it must be 1 or more and at most "
                f"{MOST_TOKENS:,}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What a model learns from, in one bucket of the account.

    Args:
        bucket: The bucket.
        training: The object with the examples, or the prompts of a distillation, in JSON Lines.
        validation: Objects with examples that the result is checked against, at most 10.
        logs: The folder of invocation logs to learn from instead of `training`; made by `of_logs`.
        log_filter: Only logged calls whose request metadata has these values.
        with_responses: Whether the logged answers are learned from, or only the prompts.
        encryption_key: The key of the objects; the bucket's own otherwise.

    Raises:
        TokenmillError: For no or two sources, or an object's name that Bedrock does not take.
    """

    bucket: s3.IBucket
    training: str = ""
    validation: tuple[str, ...] = ()
    logs: str = ""
    log_filter: Mapping[str, str] = field(default_factory=dict)
    with_responses: bool = False
    encryption_key: kms.IKey | None = None

    def __post_init__(self) -> None:
        if self.bucket is None:
            raise TokenmillError("bucket is None; give the bucket that the data is in")
        resource(BUCKET, bucket=self.bucket)
        resource(KEY, encryption_key=self.encryption_key)
        flags(with_responses=self.with_responses)
        object.__setattr__(self, "validation", texts("validation", self.validation))
        _check_filter(text_map("log_filter", self.log_filter))
        for name in ("training", "logs"):
            if getattr(self, name) != "":
                text(name, getattr(self, name))
        if bool(self.training) == bool(self.logs):
            raise TokenmillError(
                f"training is {self.training!r:.80} and logs is {self.logs!r:.80}; give one of the two"
            )
        if len(self.validation) > MOST_VALIDATORS:
            raise TokenmillError(f"validation has {len(self.validation)} objects; it takes {MOST_VALIDATORS}")
        for name in (self.training or self.logs.strip("/"), *self.validation):
            if not PREFIX.fullmatch(name) or len(name) > LONGEST_OBJECT:
                raise TokenmillError(
                    f"{name!r:.80} is no object's name that Bedrock takes: letters, digits and -!_*'(). "
                    "between slashes, known at synth"
                )

    @classmethod
    def of_logs(
        cls,
        bucket: s3.IBucket,
        *,
        logs: str,
        with_responses: bool = False,
        log_filter: Mapping[str, str] | None = None,
    ) -> Self:
        """Return invocation logs, which an InvocationLogging wrote, as training data.

        Args:
            bucket: The bucket of the logs.
            logs: Their folder.
            with_responses: Whether the logged answers are learned from, or only the prompts.
            log_filter: Only calls whose request metadata has all of these values.
        """
        return cls(
            bucket=bucket,
            logs=logs,
            with_responses=with_responses,
            log_filter={} if log_filter is None else log_filter,
        )

    @property
    def key(self) -> kms.IKey | None:
        """The key of the objects, where there is one."""
        return self.encryption_key or self.bucket.encryption_key

    def request(self) -> dict[str, Any]:
        """TrainingDataConfig and ValidationDataConfig of the job."""
        found: dict[str, Any] = {"TrainingDataConfig": self._training()}
        if self.validation:
            uris = [{"S3Uri": self.bucket.s3_url_for_object(name)} for name in self.validation]
            found["ValidationDataConfig"] = {"Validators": uris}
        return found

    def _training(self) -> dict[str, Any]:
        if self.training:
            return {"S3Uri": self.bucket.s3_url_for_object(self.training)}
        source = {"S3Uri": self.bucket.s3_url_for_object(f"{self.logs.strip('/')}/")}
        config: dict[str, Any] = {
            "InvocationLogSource": source,
            "UsePromptResponse": self.with_responses,
        }
        filters = [{"Equals": {name: value}} for name, value in self.log_filter.items()]
        if filters:
            config["RequestMetadataFilters"] = filters[0] if len(filters) == 1 else {"AndAll": filters}
        return {"InvocationLogsConfig": config}


def _check_filter(found: Mapping[str, str]) -> None:
    if len(found) > MOST_FILTERS:
        raise TokenmillError(f"log_filter has {len(found)} entries; it takes {MOST_FILTERS}")
    for key, value in found.items():
        if not (METADATA.fullmatch(key) and (not value or METADATA.fullmatch(value))):
            raise TokenmillError(
                f"log_filter has {key!r:.60}: {value!r:.60}; names and values have at most 256 letters, "
                "digits, blanks and . _ : / = + $ @ -"
            )
