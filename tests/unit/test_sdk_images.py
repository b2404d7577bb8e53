"""The image catalog against the lists that the SageMaker Python SDK ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from tokenmill.cli import catalog
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.core.sdk_images import LISTS, Kind, compare_images, sdk_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_commands import Run

FOLDER = Path(__file__).resolve().parents[1] / "data" / "image_uri_config"


@pytest.fixture
def run() -> Run:
    """Runs the catalog's commands."""
    app = typer.Typer()
    catalog.register(app)
    return lambda *arguments, input=None: CliRunner().invoke(app, list(arguments), input=input)


@pytest.fixture
def lists(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the lists in which one was changed."""

    def changed(name: str, change: Callable[[dict[str, Any]], object]) -> Path:
        for file in LISTS.values():
            document = json.loads((FOLDER / file).read_text(encoding="utf-8"))
            if file == name:
                change(document)
            (tmp_path / file).write_text(json.dumps(document), encoding="utf-8")
        return tmp_path

    return changed


def test_no_account_and_no_repository_differs_from_the_sdk_s() -> None:
    """sagemaker-core 2.27.0, read as a file: what we say of a registry is what AWS's own SDK says."""
    assert [found for found in compare_images(FOLDER) if found.is_conflict] == []


def test_every_region_of_the_sdk_is_ours() -> None:
    """A region that the SDK serves is not refused by us."""
    assert [found for found in compare_images(FOLDER) if found.kind is Kind.REGION_MISSING] == []


def test_our_neuron_image_is_one_release_newer() -> None:
    """The deep learning containers' own tables list 0.4.5, the SDK 0.4.4."""
    (newer,) = [found for found in compare_images(FOLDER) if found.kind is Kind.VERSION]
    assert (newer.image, newer.theirs) == ("hf-vllm-neuronx", "0.11.0-optimum0.4.4")
    assert newer.ours == image("hf-vllm-neuronx").tag


def test_another_account_is_a_conflict_with_its_region(lists: Callable[..., Path], run: Run) -> None:
    """Which of the two is right is for a person to say; the command exits with 1."""

    def move(document: dict[str, Any]) -> None:
        document["versions"]["0.38.0"]["registries"]["eu-west-1"] = "000000000000"

    folder = lists("djl-lmi.json", move)
    (conflict,) = [found for found in compare_images(folder) if found.is_conflict]
    assert (conflict.image, conflict.kind, conflict.subject) == ("lmi-vllm", Kind.ACCOUNT, "eu-west-1")
    assert (conflict.ours, conflict.theirs) == ("763104351884", "000000000000")
    result = run("catalog", "images", "--against", str(folder), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["conflicts"] == 1


def test_a_new_release_a_new_region_and_a_lost_one_are_told(lists: Callable[..., Path]) -> None:
    """Newer is no conflict, only something to look at."""

    def release(document: dict[str, Any]) -> None:
        versions = document["inference"]["versions"]
        registries = {**versions["0.30.0"]["registries"], "xx-new-1": "1"}
        del registries["eu-west-1"]
        versions["0.31.0"] = {**versions["0.30.0"], "tag_prefix": "0.31.0", "registries": registries}

    folder = lists("vllm.json", release)
    found = {(one.kind, one.subject) for one in compare_images(folder) if one.image == "vllm-sagemaker"}
    assert {
        (Kind.VERSION, ""),
        (Kind.REGION_MISSING, "xx-new-1"),
        (Kind.REGION_UNKNOWN, "eu-west-1"),
    } <= found


def test_another_repository_is_a_conflict(lists: Callable[..., Path]) -> None:
    """An image that moved cannot be pulled by its old name for long."""

    def rename(document: dict[str, Any]) -> None:
        document["versions"]["0.38.0"]["repository"] = "lmi"

    (conflict,) = [one for one in compare_images(lists("djl-lmi.json", rename)) if one.is_conflict]
    assert (conflict.kind, conflict.ours, conflict.theirs) == (Kind.REPOSITORY, "djl-inference", "lmi")


def test_fails_for_a_folder_that_is_none(tmp_path: Path) -> None:
    """The path and the reason."""
    with pytest.raises(TokenmillError, match="cannot read the sdk's image list .*: No such file"):
        compare_images(tmp_path)
    for name in LISTS.values():
        (tmp_path / name).write_text("[]", encoding="utf-8")
    with pytest.raises(TokenmillError, match="is not an image list of sagemaker-core 2.27 or later"):
        compare_images(tmp_path)


def test_fails_without_the_sdk() -> None:
    """The extra is named; nothing here installs a gigabyte by itself."""
    with pytest.raises(TokenmillError, match=r"sagemaker-core is not installed; run: pip install"):
        sdk_folder()


def test_the_sdk_s_folder_is_where_the_distribution_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Found by its metadata, because importing it takes two seconds."""
    record = tmp_path / "sagemaker_core-2.27.0.dist-info" / "METADATA"
    record.parent.mkdir()
    record.write_text("Metadata-Version: 2.1\nName: sagemaker-core\nVersion: 2.27.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert sdk_folder() == tmp_path / "sagemaker" / "core" / "image_uri_config"


def test_the_command_prints_a_table(run: Run) -> None:
    """Image, what differs, and both sides."""
    result = run("catalog", "images", "--against", str(FOLDER))
    assert result.exit_code == 0
    assert "0 conflicts" in result.stdout
