"""A model customized by Amazon Bedrock: fine-tuned, or taught by a larger one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.bedrock.homes import check_place
from tokenmill.core._checks import whole
from tokenmill.core._kinds import KEY, instance, resource
from tokenmill.core.bedrock_profiles import profile_route, split_profile
from tokenmill.core.errors import TokenmillError
from tokenmill.customization._job import ArtifactJob, recipe_of, tags_of
from tokenmill.customization._states import JobAbout
from tokenmill.customization._tasks import TOKEN, customized
from tokenmill.customization.artifact import ModelArtifact
from tokenmill.customization.recipes import MODEL_ID, Distillation, FineTuning, TrainingData
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.bucket import private_bucket
from tokenmill.security.hosting import FunctionHosting
from tokenmill.security.place import PARTITION, arn_in, known, place_of
from tokenmill.security.rights import Right, allow

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from constructs import Construct


# A standard workflow's longest ("Quotas", AWS Step Functions) is a year; what trains longer than this hangs.
LONGEST_HOURS = 14 * 24
# What is left of a run when the job has its time: to record what it made.
MARGIN_SECONDS = 600
OUTPUT = "output"
NO_ACCESS_LOG = (
    "The bucket holds the metrics of training runs, written by one role; each version names the run that "
    "wrote them."
)


class ModelCustomization(ArtifactJob):
    """A state machine that customizes a model once for each version that is asked for.

    `tokenmill jobs run customize` (fine-tuning) or `tokenmill jobs run distill` with the input
    {"version": "1"} starts a run, whose result is a version of the artifact; a run that takes longer than its
    limit is stopped, and so is its job. A custom model that is not deployed costs its storage.

    Args:
        scope: The parent construct.
        id: The construct's id; `tokenmill jobs` calls the job by it.
        artifact: Where versions are recorded; an artifact has one job.
        base_model: What is customized, the student of a distillation: a foundation model's id.
        recipe: FineTuning or Distillation.
        data: What it learns from.
        encryption_key: The key of the custom model and of the metrics; the services' own otherwise.
        limit_hours: After how long a run is stopped, in hours, 1 to 336.

    Raises:
        TokenmillError: If the model or the limit is out of bounds, the artifact has a job already, or the
            data does not suit the recipe.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        artifact: ModelArtifact,
        base_model: str,
        recipe: FineTuning | Distillation,
        data: TrainingData,
        encryption_key: kms.IKey | None = None,
        limit_hours: int = 72,
    ) -> None:
        instance(ModelArtifact, artifact=artifact)
        instance(TrainingData, data=data)
        resource(KEY, encryption_key=encryption_key)
        given = {"data.bucket": data.bucket, "data.encryption_key": data.encryption_key}
        check_place(scope, id, given | {"encryption_key": encryption_key})
        artifact._refuse_second()
        _check(base_model, recipe, data, limit_hours)
        super().__init__(scope, id)
        distilled = isinstance(recipe, Distillation)
        kind = "distill" if distilled else "customize"
        artifact._claim(kind, self)
        self.artifact, self.base_model, self.recipe, self.data = artifact, base_model, recipe, data
        self._key = encryption_key
        self.output_bucket = private_bucket(
            self, "Output", reason_without_access_log=NO_ACCESS_LOG, encryption_key=encryption_key
        )
        self.service_role = self._service_role(
            f"Lets Amazon Bedrock customize {base_model}", "model-customization-job"
        )
        self._let_train()
        seconds = limit_hours * 3600
        made_of = self._made_of()
        self.state_machine = self._state_machine(
            JobAbout(
                kind=kind,
                name=id,
                about=f"distills {recipe.teacher} into {base_model}"
                if isinstance(recipe, Distillation)
                else f"fine-tunes {base_model}",
                limit_seconds=seconds,
                cost="paid for by the token that is trained on"
                + (", and the teacher's answers as any other call" if distilled else ""),
                paid=True,
                facts={"base_model": base_model},
            ),
            customized(self._request(made_of), partition=PARTITION, limit_seconds=seconds - MARGIN_SECONDS),
            recipe=recipe_of(self, made_of),
            rights=self._rights(),
            hosting=FunctionHosting(),
        )

    def _made_of(self) -> dict[str, Any]:
        found: dict[str, Any] = {"BaseModelIdentifier": self._base_arn(), **self.data.request()}
        if isinstance(self.recipe, Distillation):
            teacher = {
                "TeacherModelIdentifier": self.recipe.teacher,
                "MaxResponseLengthForInference": self.recipe.max_response_tokens,
            }
            found["CustomizationType"] = "DISTILLATION"
            found["CustomizationConfig"] = {"DistillationConfig": {"TeacherModelConfig": teacher}}
        else:
            found["CustomizationType"] = "FINE_TUNING"
            if self.recipe.hyperparameters:
                found["HyperParameters"] = self.recipe.hyperparameters
        if self._key is not None:
            found["CustomModelKmsKeyId"] = self._key.key_arn
        return found

    def _request(self, made_of: dict[str, Any]) -> dict[str, Any]:
        return {
            **made_of,
            "JobName.$": "$.job_name",
            "CustomModelName.$": "$.model_name",
            "RoleArn": self.service_role.role_arn,
            "ClientRequestToken.$": TOKEN,
            "OutputDataConfig": {"S3Uri": self.output_bucket.s3_url_for_object(f"{OUTPUT}/")},
            "JobTags": tags_of(self.artifact),
            "CustomModelTags": tags_of(self.artifact),
        }

    def _base_arn(self) -> str:
        return _foundation_arn(place_of(self).region, self.base_model)

    def _let_train(self) -> None:
        data = self.data
        places = [data.training, *data.validation] if data.training else [f"{data.logs.strip('/')}/*"]
        for place in places:
            self._allow_folder(
                data.bucket,
                place,
                objects=actions.CUSTOMIZATION_READ,
                listing=actions.CUSTOMIZATION_LIST,
            )
        self._allow_folder(
            self.output_bucket,
            f"{OUTPUT}/*",
            objects=actions.CUSTOMIZATION_WRITE,
            listing=actions.CUSTOMIZATION_LIST,
        )
        self._allow_key(data.key, actions.OBJECT_KEY_READ)
        self._allow_key(self._key, actions.CUSTOM_MODEL_KEY)
        if isinstance(self.recipe, Distillation):
            self._let_ask(self.recipe.teacher)

    def _let_ask(self, teacher: str) -> None:
        """Let the job ask a teacher: the model here, or a profile and the model in each region behind it."""
        region = place_of(self).region
        geography, model = split_profile(teacher)
        arns = [_foundation_arn(region, model)]
        if geography:
            regions = profile_route(teacher, known(region)).regions or ("*",)
            profile = arn_in(self, "bedrock", f"inference-profile/{teacher}")
            arns = [profile, *(_foundation_arn(region, model) for region in regions)]
        allow(self.service_role, Right(actions.TEACHER_INVOKE, arns))
        if arns[-1].startswith(f"arn:{PARTITION}:bedrock:*"):
            found = any_resource(f"arn:<AWS::Partition>:bedrock:*::foundation-model/{model}")
            acknowledge(self.service_role, {found: "A global profile calls the model in any region."})

    def _rights(self) -> list[Right]:
        jobs, models = self._bedrock_arn("model-customization-job"), self._bedrock_arn("custom-model")
        return [
            Right(actions.CUSTOMIZATION_START, [self._base_arn(), models, jobs]),
            Right(actions.CUSTOMIZATION_WATCH, [jobs]),
            Right(actions.CUSTOM_MODEL_READ, [models]),
        ]


def _foundation_arn(region: str, model: str) -> str:
    return f"arn:{PARTITION}:bedrock:{region}::foundation-model/{model}"


def _check(base_model: str, recipe: FineTuning | Distillation, data: TrainingData, limit_hours: int) -> None:
    found = []
    if not isinstance(base_model, str) or not MODEL_ID.fullmatch(base_model):
        found.append(
            f"base_model is {base_model!r:.80}; give a foundation model's id, such as "
            "'amazon.nova-lite-v1:0:300k'"
        )
    elif split_profile(base_model)[0]:
        found.append(
            f"base_model is {base_model!r}, a cross-region profile; a job customizes the model itself, so "
            f"give {split_profile(base_model)[1]!r}"
        )
    if not isinstance(recipe, FineTuning | Distillation):
        found.append(f"recipe is {recipe!r:.80}; give a FineTuning or a Distillation")
    elif isinstance(recipe, FineTuning) and data.logs:
        found.append("fine-tuning learns from labelled examples; give data with training=, not of_logs")
    if not 1 <= whole("limit_hours", limit_hours) <= LONGEST_HOURS:
        found.append(f"limit_hours is {limit_hours}; it must be 1 to {LONGEST_HOURS}")
    if found:
        raise TokenmillError("\n".join(found))
