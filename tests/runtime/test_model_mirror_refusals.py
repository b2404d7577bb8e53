"""What the copy of a model refuses: licences, gates, tokens, revisions, paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_mirror import (
    MODEL,
    S3,
    TOKEN,
    Cdn,
    Hub,
)
from support_mirror_program import (
    copied,
    expected,
    opened,
    runner,
    tiny,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cdn() -> Iterator[Cdn]:
    yield from opened(Cdn())


@pytest.fixture
def hub(cdn: Cdn) -> Iterator[Hub]:
    yield from opened(tiny(cdn))


@pytest.fixture
def s3() -> Iterator[S3]:
    yield from opened(S3())


@pytest.fixture
def run(hub: Hub, s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return runner(hub, s3, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("card", "acknowledged", "says"),
    [
        ({"license": "llama3.1"}, "apache-2.0", "'llama3.1'"),
        ({"license": "other", "license_name": "qwen-research"}, "other", "'qwen-research'"),
        ({}, "apache-2.0", "'unknown'"),
        (None, "mit", "'unknown'"),
        ({"license": ["mit", "apache-2.0"]}, "mit", "'apache-2.0, mit'"),
    ],
)
def test_fails_where_the_licence_is_another(
    run: Any, hub: Hub, s3: S3, capsys: Any, card: Any, acknowledged: str, says: str
) -> None:
    """The card's licence at the time of the copy counts, and nothing is copied before."""
    hub.card = card
    assert run(MIRROR_LICENCE=acknowledged)[0] == 1
    said = capsys.readouterr().out
    assert f"TOKENMILL_FAILED: the model card says licence {says}, and {acknowledged!r} was" in said
    assert s3.writes == []


@pytest.mark.parametrize(
    ("card", "acknowledged"),
    [
        ({"license": "other", "license_name": "qwen-research"}, "qwen-research"),
        ({}, "unknown"),
        ({"license": ["mit", "apache-2.0"]}, "mit, apache-2.0"),
    ],
)
def test_the_licence_is_named_as_the_card_does(run: Any, hub: Hub, card: Any, acknowledged: str) -> None:
    """A card's own name, none at all, or several."""
    hub.card = card
    assert run(MIRROR_LICENCE=acknowledged)[0] == 0


def test_a_gated_model_needs_a_token(run: Any, hub: Hub, s3: S3, capsys: Any) -> None:
    """Told before a byte is copied, with the page where its terms are accepted."""
    hub.gated = "manual"
    assert run()[0] == 1
    assert f"{MODEL} is gated: accept its terms at https://huggingface.co/{MODEL}" in capsys.readouterr().out
    assert s3.writes == []


def test_a_token_opens_a_gated_model_and_stays_at_the_hub(
    run: Any, hub: Hub, s3: S3, cdn: Cdn, capsys: Any
) -> None:
    """It does not go to the CDN, nor into the log, nor into the bucket."""
    hub.gated = "auto"
    assert run(HF_TOKEN=f"{TOKEN}\n")[0] == 0
    assert copied(s3) == expected(hub)
    assert {authorization for _, _, authorization in cdn.seen} == {None}
    captured = capsys.readouterr()
    assert TOKEN not in captured.out + captured.err
    assert not any(TOKEN.encode() in body for body in s3.objects.values())


def test_fails_where_the_token_s_user_is_not_let_in(run: Any, hub: Hub, capsys: Any) -> None:
    """403 of a gated repository: a form was not filled in, or waits for its approval."""
    hub.gated, hub.let_in = "manual", False
    assert run(HF_TOKEN=TOKEN)[0] == 1
    said = capsys.readouterr().out
    assert "has not been let in" in said
    assert TOKEN not in said


def test_fails_on_a_wrong_token(run: Any, capsys: Any) -> None:
    """An expired token is 401 for everything, even for public models."""
    assert run(HF_TOKEN="hf_expired")[0] == 1
    said = capsys.readouterr().out
    assert "does not take the token" in said
    assert "hf_expired" not in said


def test_fails_on_an_unknown_revision_or_model(run: Any, capsys: Any) -> None:
    """With the page where commits stand; a private model looks like none."""
    assert run(MIRROR_REVISION="f" * 40)[0] == 1
    assert f"has no revision {'f' * 40}; its commits" in capsys.readouterr().out
    assert run(MIRROR_MODEL="acme/none")[0] == 1
    assert "the Hub shows no model 'acme/none'" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../b"])
def test_fails_on_a_path_outside_the_repository(run: Any, hub: Hub, s3: S3, capsys: Any, path: str) -> None:
    """A key with .. would become a file outside /opt/ml/model."""
    hub.files[path] = (b"x", False)
    assert run()[0] == 1
    assert "no path below its root" in capsys.readouterr().out
