"""A pinned revision of a Hugging Face repository, copied once into the account's bucket."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.build_run import LONGEST_MINUTES, BuildJob, BuildRun
from tokenmill.endpoints.model_source import ModelSource, refuse_plain_token
from tokenmill.security import FunctionHosting, actions
from tokenmill.security.acknowledge import acknowledge_resources
from tokenmill.security.bucket import private_bucket
from tokenmill.security.code import PACKAGE, runtime_root

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3
    from aws_cdk import aws_secretsmanager as secretsmanager

COMMIT = re.compile(r"[0-9a-f]{40}")
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
HUB = "https://huggingface.co"
# What the build's preparation takes of its time, and what it takes to end in good order.
MARGIN_SECONDS = 180
MANIFEST = "MIRROR_MANIFEST"
RESULT_FILE = "/tmp/mirror-manifest"
COMMANDS = (
    f"python3 -m tokenmill_runtime.model_mirror {RESULT_FILE}",
    f'{MANIFEST}="$(cat {RESULT_FILE})"',
    f"export {MANIFEST}",
)
ONLY_THE_PROGRAM = (
    "*",
    f"!{PACKAGE}/",
    f"!{PACKAGE}/__init__.py",
    f"!{PACKAGE}/model_mirror/",
    f"!{PACKAGE}/model_mirror/*.py",
    "__pycache__",
)


class ModelMirror(Construct):
    """A pinned revision of a model, copied once into a bucket of the account.

    Endpoints that load from it start faster, need no way to the internet, and go on when the repository
    changes or goes. The copy is made by a CodeBuild build: sizes and hashes are checked, of several formats
    of the weights safetensors are taken, and what is there already is not loaded again. A build runs 50
    minutes at the most; what it copied by then stays, and the next deployment goes on from there, if it has
    the same bucket: for a model of several hundred GB give `bucket`, because a first deployment that fails
    leaves its own bucket behind.

    Args:
        scope: The parent construct.
        id: The construct's id.
        model: Its name on the Hugging Face Hub, such as "Qwen/Qwen3-8B".
        revision: The commit's hash, 40 hexadecimal digits; a branch would be another model tomorrow.
        licence: The licence whose terms you accept, by the name on the model card, such as "apache-2.0"; the
            copy fails where the card says another. A card's own `license_name` counts where it says "other";
            "unknown" where it says none.
        token: A secret whose whole text is the Hub's token, for gated and private models; read by the build
            alone, in no template and no log.
        bucket: Where the copy goes; a bucket of its own, which stays when the stack goes, otherwise.
        encryption_key: The key of the objects; S3's own encryption otherwise.
        hosting: Logs and keys of the build; `ephemeral` lets the own bucket go with the stack if it is empty.

    Raises:
        TokenmillError: If the model's name, the revision or the licence is not one, or a token of CDK.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        model: str,
        revision: str,
        licence: str,
        token: secretsmanager.ISecret | None = None,
        bucket: s3.IBucket | None = None,
        encryption_key: kms.IKey | None = None,
        hosting: FunctionHosting | None = None,
    ) -> None:
        refuse_plain_token(token)
        problems = _problems(model, revision, licence)
        if problems:
            raise TokenmillError("\n".join(problems))
        super().__init__(scope, id)
        hosting = hosting or FunctionHosting()
        self.model = model
        self.revision = revision
        self.bucket = bucket or _bucket(self, encryption_key, ephemeral=hosting.ephemeral)
        self.prefix = f"models/{model}/{revision}/"
        self._key = encryption_key or self.bucket.encryption_key
        self.build = BuildRun(
            self,
            "Copy",
            build=self._job(licence, token, encryption_key),
            properties={"Model": model, "Revision": revision, "Licence": licence},
            hosting=hosting,
        )
        self._let_copy()

    @property
    def source(self) -> ModelSource:
        """What an endpoint loads from; it exists when the copy is whole."""
        return ModelSource(
            model=self.model,
            revision=self.revision,
            bucket=self.bucket,
            prefix=self.prefix,
            encryption_key=self._key,
            after=(self.build,),
        )

    @property
    def manifest_digest(self) -> str:
        """SHA-256 of the copy's manifest, which lists every file with its hash, as a token."""
        return self.build.get(MANIFEST)

    @property
    def manifest_uri(self) -> str:
        """Where the manifest is."""
        return self.bucket.s3_url_for_object(f"{self._records}manifest.json")

    @property
    def _records(self) -> str:
        return f"mirrors/{self.model}/{self.revision}/"

    def _job(
        self, licence: str, token: secretsmanager.ISecret | None, encryption_key: kms.IKey | None
    ) -> BuildJob:
        environment = {
            "MIRROR_MODEL": self.model,
            "MIRROR_REVISION": self.revision,
            "MIRROR_LICENCE": licence,
            "MIRROR_BUCKET": self.bucket.bucket_name,
            "MIRROR_SECONDS": str(LONGEST_MINUTES * 60 - MARGIN_SECONDS),
        }
        if encryption_key is not None:
            environment["MIRROR_KEY"] = encryption_key.key_arn
        return BuildJob(
            description=f"Copies {self.model} at {self.revision[:12]} from the Hugging Face Hub",
            commands=COMMANDS,
            outputs=(MANIFEST,),
            source=runtime_root(),
            exclude=ONLY_THE_PROGRAM,
            environment=environment,
            secrets={} if token is None else {"HF_TOKEN": token},
            timeout_minutes=LONGEST_MINUTES,
        )

    def _let_copy(self) -> None:
        role = self.build.role
        places = (f"{self.prefix}*", f"{self._records}*")
        objects = [self.bucket.arn_for_objects(place) for place in places]
        prefixes = {"StringLike": {"s3:prefix": list(places)}}
        bucket = [self.bucket.bucket_arn]
        for statement in (
            iam.PolicyStatement(actions=list(actions.MIRROR_WRITE), resources=objects),
            iam.PolicyStatement(actions=list(actions.MIRROR_LIST), resources=bucket, conditions=prefixes),
            # The condition is documented for ListBucket ("Bucket policy examples using condition keys").
            iam.PolicyStatement(actions=list(actions.MIRROR_UPLOADS), resources=bucket),
        ):
            role.add_to_policy(statement)
        reason = (
            "The copy is all the objects under its prefix, whose names the repository of the model decides."
        )
        acknowledge_resources(role, dict.fromkeys(objects, reason))
        if self._key is not None:
            self._key.grant(role, *actions.OBJECT_KEY_WRITE)


def _bucket(scope: Construct, encryption_key: kms.IKey | None, *, ephemeral: bool) -> s3.Bucket:
    return private_bucket(
        scope,
        "Bucket",
        reason_without_access_log="The bucket holds a model's files, written once by one build and read by "
        "endpoints; the manifest names every file and its hash.",
        encryption_key=encryption_key,
        removal_policy=cdk.RemovalPolicy.DESTROY if ephemeral else cdk.RemovalPolicy.RETAIN,
    )


def _problems(model: str, revision: str, licence: str) -> list[str]:
    found = []
    for name, value in (("model", model), ("revision", revision), ("licence", licence)):
        if cdk.Token.is_unresolved(value):
            found.append(f"{name} is a token; give its value as text")
        elif not isinstance(value, str):
            found.append(f"{name} is {value!r:.80}; give it as text")
    if found:
        return found
    if not MODEL.fullmatch(model):
        found.append(f"model is {model!r}; give its name on the Hugging Face Hub, such as 'Qwen/Qwen3-8B'")
    if not COMMIT.fullmatch(revision):
        found.append(
            f"revision is {revision!r}, which can point to other files tomorrow; give the commit's 40 "
            f'hexadecimal digits, which stand at {HUB}/{model}/commits/main and are the "sha" of '
            f"{HUB}/api/models/{model}"
        )
    if not licence.strip():
        found.append(
            f"licence is empty; read the model card at {HUB}/{model} and give the licence that you accept, "
            "such as 'apache-2.0'"
        )
    return found
