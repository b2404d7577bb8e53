"""The section [batch]: its own keys, every mistake at once, beside the sections of services."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenmill.core.errors import SettingsError, TokenmillError
from tokenmill.core.settings import load_batch, load_section, load_settings, settings_from

ROOT = Path(__file__).resolve().parents[2]
BATCH = """
[batch]
region = "eu-west-1"
bedrock_model = "eu.amazon.nova-lite-v1:0"

[batch.run]
records = 5000
input_tokens = 300
output_tokens = 40
deadline_hours = 48
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "tokenmill.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_batch(write(folder, text))
    return caught.value.problems


def test_a_section_is_read(tmp_path: Path) -> None:
    """What is left out has its default."""
    found = load_batch(write(tmp_path, BATCH))
    assert found is not None
    assert (found.region, found.backend, found.model, found.profile) == ("eu-west-1", "auto", None, "dev")
    assert (found.load.records, found.load.deadline_hours) == (5000, 48.0)
    assert found.plan_path == tmp_path / "batch.plan.json"


def test_context_overrides_a_key(tmp_path: Path) -> None:
    """As for every other section."""
    found = load_batch(write(tmp_path, BATCH), context={"tokenmill:batch.run.records": "7"})
    assert found is not None and found.load.records == 7


def test_a_file_without_the_section_has_no_batch() -> None:
    """The repository's own, whose [chat] is read as before."""
    path = ROOT / "tokenmill.toml"
    assert load_batch(path) is None
    assert list(load_settings(path)) == ["chat"]


def test_sections_of_services_do_not_mind(tmp_path: Path) -> None:
    """[chat] and [batch] stand side by side; a mistake in either is told to whoever reads the file."""
    chat = (ROOT / "tokenmill.toml").read_text(encoding="utf-8").replace("models/", f"{ROOT}/models/")
    path = write(tmp_path, chat + BATCH)
    assert list(load_settings(path)) == ["chat"]
    write(tmp_path, chat + BATCH.replace("records = 5000", "records = 0"))
    with pytest.raises(SettingsError, match=r"batch\.run\.records"):
        load_settings(path)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    """Unknown, missing and wrong keys, each with what is allowed."""
    text = BATCH.replace('region = "eu-west-1"', 'region = 3\nbackend = "lambda"\ncolour = "red"')
    text = text.replace("deadline_hours = 48", "deadline_hour = 48")
    found = "\n".join(problems(tmp_path, text))
    assert "batch.region must be an AWS region" in found
    assert "batch.backend must be one of auto, bedrock-batch, transform, async, got 'lambda'" in found
    assert "unknown key batch.colour" in found
    assert "unknown key batch.run.deadline_hour; did you mean deadline_hours?" in found
    assert "missing key batch.run.deadline_hours" in found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('bedrock_model = "eu.amazon.nova-lite-v1:0"', "", "missing key batch.model or batch.bedrock_model"),
        ("eu.amazon.nova-lite-v1:0", "Nova Lite", "'Nova Lite' is not a Bedrock model id"),
        ("records = 5000", "records = 1.5", "batch.run.records must be a whole number"),
        ("deadline_hours = 48", "deadline_hours = 0", "batch.run.deadline_hours"),
        ("deadline_hours = 48", "deadline_hours = 1e9", "must be above 0 and at most 8760"),
        ("[batch.run]", "[batch.limits]\nmax_instances = 0\n[batch.run]", "batch.limits.max_instances"),
        (
            "[batch.run]",
            "[batch.token_prices]\ncache = 1\n[batch.run]",
            "unknown key batch.token_prices.cache",
        ),
        ("[batch]", '[batch]\nmodel = "no/such-model"', "batch.model:"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    """With its key."""
    assert message in "\n".join(problems(tmp_path, BATCH.replace(old, new)))


def test_batch_is_no_section_of_a_service(tmp_path: Path) -> None:
    """It has no rate and no latency goals, so nothing takes it for one."""
    with pytest.raises(TokenmillError, match=r"section \[batch\] has keys of its own; load_batch reads it"):
        load_section(write(tmp_path, BATCH), "batch")
    with pytest.raises(SettingsError, match="unknown stack 'batch'; allowed: chat, rag"):
        settings_from("batch", tmp_path / "tokenmill.toml", {})


def test_the_digest_follows_what_a_plan_is_made_of(tmp_path: Path) -> None:
    """Not the profile, which changes no choice."""
    first = load_batch(write(tmp_path, BATCH))
    same = load_batch(write(tmp_path, BATCH.replace("[batch]", '[batch]\nprofile = "prod"')))
    other = load_batch(write(tmp_path, BATCH.replace("5000", "5001")))
    assert first is not None and same is not None and other is not None
    assert first.input_hash == same.input_hash != other.input_hash
