"""The serving image: built once for each content, in a repository that never changes a tag."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms

from support_stack import only, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.endpoints import ServingImage, serving_image
from tokenmill.security.code import runtime_root
from tokenmill.security.hosting import FunctionHosting

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = image("aws-vllm-neuronx")


def test_the_repository_keeps_tags_scans_and_forgets(stack: cdk.Stack) -> None:
    """Tags never move, images are scanned, old ones go, and the repository stays with its images."""
    ServingImage(stack, "Image", keep_images=5)
    found = only(template_of(stack), "AWS::ECR::Repository")
    properties = found["Properties"]
    assert properties["ImageTagMutability"] == "IMMUTABLE"
    assert properties["ImageScanningConfiguration"] == {"ScanOnPush": True}
    assert '"countNumber":5' in properties["LifecyclePolicy"]["LifecyclePolicyText"]
    assert found["DeletionPolicy"] == "Retain"


def test_the_repository_takes_the_customers_key(stack: cdk.Stack) -> None:
    """The build may use the key, and nothing else may."""
    ServingImage(stack, "Image", encryption_key=kms.Key(stack, "Key"))
    template = template_of(stack)
    encryption = only(template, "AWS::ECR::Repository")["Properties"]["EncryptionConfiguration"]
    assert encryption["EncryptionType"] == "KMS"
    assert "kms:GenerateDataKey" in json.dumps(template)


def test_an_ephemeral_repository_goes_with_its_stack(stack: cdk.Stack) -> None:
    """A development stack leaves nothing behind."""
    ServingImage(stack, "Image", hosting=FunctionHosting(ephemeral=True))
    found = only(template_of(stack), "AWS::ECR::Repository")
    assert (found["DeletionPolicy"], found["Properties"]["EmptyOnDelete"]) == ("Delete", True)


def test_the_tag_is_a_hash_of_what_goes_in(
    stack: cdk.Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same content has the same tag in every stack, and a changed program or base another."""
    made = ServingImage(stack, "Image")
    assert made.tag == serving_image.content_tag(BASE)
    assert made.tag.startswith("0.24.0.1.1.0-")
    copied = tmp_path / "tokenmill_runtime"
    for path in serving_image.content_files():
        place = tmp_path / path.relative_to(runtime_root())
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    monkeypatch.setattr(serving_image, "runtime_root", lambda: tmp_path)
    assert serving_image.content_tag(BASE) == made.tag
    with (copied / "serving_image" / "flags.py").open("a") as program:
        program.write("# changed\n")
    assert serving_image.content_tag(BASE) != made.tag


def test_the_images_files_are_the_programs_and_no_cache() -> None:
    """What the entrypoint imports is in the image; compiled files of this machine are not."""
    names = {path.name for path in serving_image.content_files()}
    assert {"Dockerfile", "entrypoint.py", "proxy.py", "compiled_artifact.py"} <= names
    assert not [name for name in names if name.endswith(".pyc")]
    assert "aws.py" not in names


def test_the_program_runs_from_the_images_files_alone(tmp_path: Path) -> None:
    """Copied as the Dockerfile copies them, without the rest of the runtime or any package."""
    for path in serving_image.content_files():
        place = tmp_path / path.relative_to(runtime_root())
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    program = tmp_path / "tokenmill_runtime" / "serving_image" / "entrypoint.py"
    done = subprocess.run(
        ["python3", "-I", "-S", str(program), "serve"], capture_output=True, text=True, env={}, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("tokenmill: error: SM_VLLM_MODEL is not set")


def test_digest_and_uri_come_from_the_build(stack: cdk.Stack) -> None:
    """An endpoint of the stack is bound to the very image, and so waits for its build."""
    made = ServingImage(stack, "Image")
    resolved = stack.resolve({"uri": made.uri, "image": made.image.tag_or_digest})
    assert resolved["image"] == {"Fn::GetAtt": ["ImageBuildRun055BBCCE", "IMAGE_DIGEST"]}
    assert resolved["image"] in resolved["uri"]["Fn::Join"][1]
    assert made.tagged_image.tag_or_digest == made.tag


def test_a_warning_says_that_it_is_experimental(stack: cdk.Stack) -> None:
    """Nobody has served the image on an account yet."""
    from aws_cdk import assertions

    ServingImage(stack, "Image")
    warnings = assertions.Annotations.from_stack(stack).find_warning(
        "*", assertions.Match.string_like_regexp("an image built from aws-vllm-neuronx is experimental")
    )
    assert len(warnings) == 1


@pytest.mark.parametrize("base", ["hf-vllm-neuronx", "lmi-vllm"])
def test_fails_for_a_base_that_needs_no_build(stack: cdk.Stack, base: str) -> None:
    """Endpoints pull that image as it is."""
    with pytest.raises(TokenmillError, match=f"base is '{base}', which endpoints pull"):
        ServingImage(stack, "Image", base=base)
    assert stack.node.try_find_child("Image") is None


@pytest.mark.parametrize("number", [1, 1001])
def test_fails_for_too_few_or_too_many_images(stack: cdk.Stack, number: int) -> None:
    """With one image there is none to roll back to."""
    with pytest.raises(TokenmillError, match=f"keep_images is {number}; it must be 2 to 1000"):
        ServingImage(stack, "Image", keep_images=number)
    assert stack.node.try_find_child("Image") is None


class Tools:
    """`aws` and `docker` as scripts that write down what they are asked and answer as told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.built = folder / "built"
        self._script(
            "aws",
            'case "$*" in *describe-images*) [ -f "$HERE/built" ] || exit 254; echo sha256:abc;; '
            "*get-login*) echo secret;; esac",
        )
        self._script("docker", 'case "$1" in push) touch "$HERE/built";; login) cat > /dev/null;; esac')

    def _script(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/bash\nHERE={self.folder}\necho "{name} $*" >> {self.log}\n{body}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, **more: str) -> str:
        """Run the build's commands in one shell as CodeBuild does and return the digest it exports."""
        environment = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "BASE": f"{BASE.repository}:{BASE.tag}",
            "TAG": "tag",
            "REPOSITORY": "images",
            "REPOSITORY_URI": "1.dkr.ecr.us-east-1.amazonaws.com/images",
            **more,
        }
        script = "\n".join(["set -e", *serving_image.COMMANDS, 'echo "digest=$IMAGE_DIGEST"'])
        done = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.rpartition("digest=")[2].strip()


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[Tools]:
    yield Tools(tmp_path)


def test_the_build_pushes_and_exports_the_digest(tools: Tools) -> None:
    """The commands work in a shell: login, build from the base, push, look the digest up."""
    assert tools.run() == "sha256:abc"
    log = tools.log.read_text()
    assert f"--build-arg BASE={BASE.repository}:{BASE.tag}" in log
    assert "docker login --username AWS --password-stdin 1.dkr.ecr.us-east-1.amazonaws.com" in log
    assert "docker push 1.dkr.ecr.us-east-1.amazonaws.com/images:tag" in log
    assert "secret" not in log


def test_an_image_that_exists_is_not_built_again(tools: Tools) -> None:
    """Its tag is its content."""
    tools.built.touch()
    assert tools.run() == "sha256:abc"
    assert "docker" not in tools.log.read_text()


def test_a_push_that_fails_fails_the_build(tools: Tools) -> None:
    """No digest of an image that is not there."""
    (tools.folder / "docker").write_text("#!/bin/bash\nexit 1\n")
    with pytest.raises(subprocess.CalledProcessError):
        tools.run()


def test_the_catalog_knows_the_built_image() -> None:
    """It serves where its base does, under the same variables, and is in no registry."""
    built = image(serving_image.BUILT_IMAGE)
    assert (built.tag, built.environment_style, built.regions) == (BASE.tag, "SM_VLLM_", ())
    assert (built.servable, built.status, BASE.servable) == (True, "experimental", False)
    assert set(built.accelerators) <= set(BASE.accelerators)


def test_the_build_sees_nothing_but_the_images_files(stack: cdk.Stack) -> None:
    """A change elsewhere in the runtime starts no build."""
    made = ServingImage(stack, "Image")
    cdk_out = Path(cdk.App.of(stack).synth().directory)
    template: dict[str, Any] = json.loads((cdk_out / "test.template.json").read_text())
    hashes = json.dumps(only(template, "AWS::CodeBuild::Project"))
    sources = [
        folder
        for folder in cdk_out.glob("asset.*")
        if (folder / "tokenmill_runtime" / "serving_image").exists() and folder.name[6:70] in hashes
    ]
    (source,) = sources
    found = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    wanted = {path.relative_to(runtime_root()).as_posix() for path in serving_image.content_files()}
    assert found == wanted
    assert made.build.build.source == runtime_root()
