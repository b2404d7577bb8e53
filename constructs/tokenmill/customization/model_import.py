"""A model brought into Amazon Bedrock: open weights, or a model of Amazon Nova that SageMaker trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.bedrock.homes import check_place, of_hosting, region_of
from tokenmill.core._checks import whole
from tokenmill.core._kinds import KEY, instance, instance_or_none, resource
from tokenmill.core.errors import TokenmillError
from tokenmill.customization._job import ArtifactJob, recipe_of, tags_of
from tokenmill.customization._states import JobAbout
from tokenmill.customization._tasks import TOKEN, Making, created_model, polled_import
from tokenmill.customization.artifact import ModelArtifact
from tokenmill.customization.sources import ImportSource
from tokenmill.security import actions
from tokenmill.security.hosting import FunctionHosting
from tokenmill.security.place import PARTITION
from tokenmill.security.rights import Right

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from constructs import Construct

KIND = "import"
# A run asks once a minute, which takes nine of the 25,000 events that an execution may have ("Quotas", AWS
# Step Functions developer guide).
LONGEST_HOURS = 36


class ModelImport(ArtifactJob):
    """A state machine that imports a model once for each version that is asked for.

    `tokenmill jobs run import --input '{"version": "1"}'` starts a run; its result is a version of the
    artifact. A version that is built already is not built again, a run that was stopped on the way takes what
    it left, and another source under the same version is refused.

    Args:
        scope: The parent construct.
        id: The construct's id; `tokenmill jobs` calls the job by it.
        artifact: Where versions are recorded; an artifact has one job.
        source: What is imported.
        encryption_key: The key of the imported model; Amazon Bedrock's own otherwise.
        limit_hours: After how long a run is stopped, in hours, 1 to 36.
        hosting: Logs of the runs.

    Raises:
        TokenmillError: If the artifact has a job already, or the limit is out of bounds.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        artifact: ModelArtifact,
        source: ImportSource,
        encryption_key: kms.IKey | None = None,
        limit_hours: int = 24,
        hosting: FunctionHosting | None = None,
    ) -> None:
        instance(ModelArtifact, artifact=artifact)
        instance(ImportSource, source=source)
        instance_or_none(FunctionHosting, hosting=hosting)
        resource(KEY, encryption_key=encryption_key)
        given = {"source.bucket": source.bucket, "source.encryption_key": source.encryption_key}
        check_place(scope, id, given | {"encryption_key": encryption_key} | of_hosting(hosting))
        _check_package(scope, source.model_package)
        artifact._refuse_second()
        if not 1 <= whole("limit_hours", limit_hours) <= LONGEST_HOURS:
            raise TokenmillError(f"limit_hours is {limit_hours}; it must be 1 to {LONGEST_HOURS}")
        super().__init__(scope, id)
        artifact._claim(KIND, self)
        self.artifact = artifact
        self.source = source
        open_weights = source.bucket is not None
        self.service_role = self._service_role(
            "Lets Amazon Bedrock read the model that it imports",
            # AWS documents the condition for import jobs; CreateCustomModel has no job.
            "model-import-job" if open_weights else None,
        )
        self._let_read()
        self._allow_key(encryption_key, actions.CUSTOM_MODEL_KEY)
        key = None if encryption_key is None else encryption_key.key_arn
        making, made_of = self._open(key) if open_weights else self._nova(key)
        recipe = recipe_of(self, made_of)
        where = self._where()
        about = JobAbout(
            kind=KIND,
            name=id,
            about=f"imports a model from {where} into Amazon Bedrock",
            limit_seconds=limit_hours * 3600,
            cost="importing is free; an imported model costs by the minute while it answers, and its storage "
            "by the month"
            if open_weights
            else "importing is free; the custom model's storage costs by the month",
            paid=False,
            facts={"source": where},
        )
        self.state_machine = self._state_machine(
            about,
            making,
            recipe=recipe,
            rights=self._rights(open_weights=open_weights),
            hosting=hosting or FunctionHosting(),
        )

    def _where(self) -> str:
        source = self.source
        if source.bucket is None:
            return source.s3_uri or source.model_package
        return source.bucket.s3_url_for_object(f"{source.prefix}/")

    def _open(self, key: str | None) -> tuple[Making, dict[str, Any]]:
        made_of: dict[str, Any] = {"ModelDataSource": {"S3DataSource": {"S3Uri": self._where()}}}
        if key is not None:
            made_of["ImportedModelKmsKeyId"] = key
        request = {
            **made_of,
            "JobName.$": "$.job_name",
            "ImportedModelName.$": "$.model_name",
            "RoleArn": self.service_role.role_arn,
            "ClientRequestToken.$": TOKEN,
            "JobTags": tags_of(self.artifact),
            "ImportedModelTags": tags_of(self.artifact),
        }
        return polled_import(request, partition=PARTITION), made_of

    def _nova(self, key: str | None) -> tuple[Making, dict[str, Any]]:
        made_of: dict[str, Any] = {}
        if self.source.s3_uri:
            made_of["ModelSourceConfig"] = {"S3DataSource": {"S3Uri": self.source.s3_uri}}
        else:
            package = {"ModelPackageArn": self.source.model_package}
            made_of["CustomModelDataSource"] = {"ModelPackageArnDataSource": package}
        if key is not None:
            made_of["ModelKmsKeyArn"] = key
        request = {
            **made_of,
            "ModelName.$": "$.model_name",
            "RoleArn": self.service_role.role_arn,
            "ClientRequestToken.$": TOKEN,
            "ModelTags": tags_of(self.artifact),
        }
        return created_model(request, partition=PARTITION), made_of

    def _let_read(self) -> None:
        source = self.source
        if source.bucket is not None:
            self._allow_folder(
                source.bucket,
                f"{source.prefix}/*",
                objects=actions.IMPORT_READ,
                listing=actions.IMPORT_LIST,
            )
            self._allow_key(source.encryption_key, actions.OBJECT_KEY_READ)
        elif source.s3_uri:
            # SageMaker's own bucket: another account's, so without the condition on the account.
            bucket, _, folder = source.s3_uri.removeprefix("s3://").partition("/")
            arn = f"arn:{PARTITION}:s3:::{bucket}"
            place = f"{folder.strip('/')}/*"
            self._allow_place(arn, place, actions.IMPORT_READ, actions.IMPORT_LIST, {})

    def _rights(self, *, open_weights: bool) -> list[Right]:
        if open_weights:
            jobs, models = self._bedrock_arn("model-import-job"), self._bedrock_arn("imported-model")
            return [
                Right(actions.MODEL_IMPORT_RUN, [jobs, models]),
                Right(actions.IMPORTED_MODEL_READ, [models]),
            ]
        models = self._bedrock_arn("custom-model")
        found = [Right([*actions.CUSTOM_MODEL_CREATE, *actions.CUSTOM_MODEL_READ], [models])]
        if self.source.model_package:
            found.append(Right(actions.MODEL_PACKAGE_READ, [self.source.model_package]))
        return found


def _check_package(scope: Construct, package: str) -> None:
    here, home = region_of(scope), package.split(":")[3] if package else None
    if here is not None and home is not None and home != here:
        raise TokenmillError(
            f"the model package {package!r:.120} is in {home}, and the stack in {here}; Amazon Bedrock "
            "imports what is in its own region, so deploy the stack there"
        )
