"""tokenmill.toml is checked whole, and a plan that no longer fits its inputs is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tokenmill.core._settings_reader import COMPLIANCE_PACKS
from tokenmill.core.errors import NoPlanError, SettingsError, TokenmillError
from tokenmill.core.settings import load_section, load_settings, read_plan, settings_from
from tokenmill.planner import plan_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    SettingsFile = Callable[..., Path]


def problems(path: Path, **context: object) -> tuple[str, ...]:
    """Return every complaint about a settings file."""
    with pytest.raises(SettingsError) as caught:
        load_settings(path, context={key.replace("__", "."): value for key, value in context.items()})
    return caught.value.problems


def test_a_section_has_defaults_for_what_is_not_said(settings_file: SettingsFile) -> None:
    """SageMaker, dev, no compliance packs, 95th percentile, one copy; the plan stands beside the file."""
    path = settings_file()
    chat = load_settings(path)["chat"]
    assert (chat.backend, chat.profile, chat.compliance, chat.slo.percentile) == (
        "sagemaker",
        "dev",
        False,
        95,
    )
    assert chat.limits.min_copies == 1
    assert chat.limits.instances == ("ml.inf2.*",)
    assert chat.plan_path == path.parent / "chat.plan.json"
    assert chat.compliance_packs == ()
    assert chat.needs_plan


def test_production_keeps_two_copies_unless_told_otherwise(settings_file: SettingsFile) -> None:
    """A rolling update of an inference component needs two (Amazon SageMaker: "Rolling deployments")."""
    prod = ('region = "us-east-1"', 'region = "us-east-1"\nprofile = "prod"')
    assert load_settings(settings_file(prod))["chat"].limits.min_copies == 2
    fewer = ("[chat.limits]", "[chat.limits]\nmin_copies = 1")
    assert load_settings(settings_file(prod, fewer))["chat"].limits.min_copies == 1


@pytest.mark.parametrize(
    ("value", "packs"),
    [("true", COMPLIANCE_PACKS), ('["HIPAASecurity"]', ("HIPAASecurity",)), ("false", ())],
)
def test_compliance_names_packs_or_all(
    settings_file: SettingsFile, value: str, packs: tuple[str, ...]
) -> None:
    """true stands for every pack."""
    path = settings_file(('region = "us-east-1"', f'region = "us-east-1"\ncompliance = {value}'))
    assert load_settings(path)["chat"].compliance_packs == packs
    assert load_settings(path)["chat"].own_network == bool(set(packs) - {"AwsSolutions"})


def test_the_packs_are_those_that_lint_knows() -> None:
    """A pack that can be asked for can be run."""
    from tokenmill.lint.pack_names import PACKS

    assert set(COMPLIANCE_PACKS) == set(PACKS)


def test_bedrock_needs_no_plan_and_no_model_file(settings_file: SettingsFile) -> None:
    """The model is a Bedrock model id."""
    path = settings_file(
        ('model = "Qwen__Qwen3-8B.json"', 'model = "amazon.nova-lite-v1:0"\nbackend = "bedrock"')
    )
    chat = load_settings(path)["chat"]
    assert not chat.needs_plan
    with pytest.raises(TokenmillError, match="chat runs on bedrock, which needs no plan"):
        read_plan(chat)


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        ("Qwen__Qwen3-8B.json", "sagemaker"),
        ("Qwen/Qwen3-32B", "sagemaker"),
        ("amazon.nova-lite-v1:0", "bedrock"),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "bedrock"),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0", "bedrock"),
    ],
)
def test_auto_takes_the_back_end_that_the_model_s_name_belongs_to(
    settings_file: SettingsFile, model: str, backend: str
) -> None:
    """A config.json or a catalog name is for SageMaker, a Bedrock model id for Bedrock."""
    path = settings_file(('model = "Qwen__Qwen3-8B.json"', f'model = "{model}"\nbackend = "auto"'))
    assert load_settings(path)["chat"].backend == backend


def test_auto_and_the_back_end_it_takes_have_one_plan(settings_file: SettingsFile) -> None:
    """Saying aloud what auto chose changes no input."""
    auto = settings_file(("[chat]", '[chat]\nbackend = "auto"'))
    chosen = load_settings(auto)["chat"].input_hash
    assert load_settings(settings_file())["chat"].input_hash == chosen


def test_fails_when_bedrock_is_given_something_else_than_a_model_id(settings_file: SettingsFile) -> None:
    """A file's path would become an ARN that no call matches."""
    path = settings_file(("[chat]", '[chat]\nbackend = "bedrock"'))
    assert problems(path) == (
        "chat.model: 'Qwen__Qwen3-8B.json' is not a Bedrock model id; give one such as "
        'amazon.nova-lite-v1:0, an inference profile\'s id or its ARN, or set backend = "sagemaker"',
    )


def test_fails_when_auto_finds_the_model_nowhere(settings_file: SettingsFile) -> None:
    """A misspelt file is no Bedrock model."""
    path = settings_file(('model = "Qwen__Qwen3-8B.json"', 'model = "Qwen__Qwen4-8B.json"\nbackend = "auto"'))
    (problem,) = problems(path)
    assert problem.startswith("chat.model: model 'Qwen__Qwen4-8B.json' is neither a file nor in the catalog")


def test_a_section_is_loaded_by_name(settings_file: SettingsFile) -> None:
    """A file without it says what it has."""
    path = settings_file()
    assert load_section(path, "chat") == load_settings(path)["chat"]
    with pytest.raises(TokenmillError) as caught:
        load_section(path, "rag")
    assert str(caught.value) == f"{path} has no section [rag]; it has chat"


def test_every_problem_is_reported_at_once(settings_file: SettingsFile) -> None:
    """Each with key, bad value and what is allowed."""
    path = settings_file(
        ('region = "us-east-1"', 'regoin = "us-east-1"\nbackend = "ec2"\nprofile = 3\ncompliance = ["x"]'),
        ("requests_per_second = 2", "requests_per_second = true"),
        ("output_tokens = 256", "output_tokens = 2.5"),
        ("itl_ms = 60", "percentile = 95"),
        ('instances = ["ml.inf2.*"]', 'instances = "ml.inf2.*"\nallow_unpriced = 1'),
    )
    assert problems(path) == (
        "unknown key chat.regoin; did you mean region? allowed: model, backend, region, traffic, slo, "
        "limits, advise, profile, compliance",
        "chat.backend must be one of sagemaker, bedrock, auto, got 'ec2'",
        "chat.profile must be one of dev, prod, got 3",
        f"chat.compliance must be true, false, or a list of {', '.join(COMPLIANCE_PACKS)}, got ['x']",
        "missing key chat.region; it must be an AWS region such as us-east-1",
        "chat.traffic.requests_per_second must be a number, got True",
        "chat.traffic.output_tokens must be a whole number, got 2.5",
        "missing key chat.slo.itl_ms; it must be a number",
        "chat.limits.instances must be a list of texts, got 'ml.inf2.*'",
        "chat.limits.allow_unpriced must be true or false, got 1",
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[chat]",
            "[chet]\na = 1\n[chat]",
            "unknown section [chet]; did you mean chat? allowed: chat, rag, batch",
        ),
        ("ttft_ms = 2000", "ttft_ms = -5", "chat.slo.ttft_ms must be above 0, got -5"),
        ('"us-east-1"', '"virginia"', "chat.region must be an AWS region such as us-east-1, got 'virginia'"),
        ('"Qwen__Qwen3-8B.json"', '"."', "chat.model: '.' is a folder; name the config.json in it"),
        (
            '"Qwen__Qwen3-8B.json"',
            '"no/such"',
            "chat.model: model 'no/such' is neither a file nor in the catalog",
        ),
        ('"Qwen__Qwen3-8B.json"', '""', "chat.model must be a text, got ''"),
    ],
)
def test_fails_for_one_bad_value(settings_file: SettingsFile, old: str, new: str, message: str) -> None:
    """One sentence with the value and the way out."""
    assert any(problem.startswith(message) for problem in problems(settings_file((old, new))))


def test_fails_for_a_table_that_is_missing_or_no_table(tmp_path: Path) -> None:
    """Traffic, goals and limits are tables; a stack is a section."""
    path = tmp_path / "tokenmill.toml"
    path.write_text('rag = 3\n[chat]\nmodel = "m"\nregion = "us-east-1"\ntraffic = 4\nlimits = 5\nslo = {}\n')
    assert problems(path) == (
        "rag must be a section [rag], got 3",
        "chat.traffic must be a table, got 4",
        "chat.limits must be a table, got 5",
        "missing key chat.slo.ttft_ms; it must be a number",
        "missing key chat.slo.itl_ms; it must be a number",
    )


def test_fails_for_a_file_without_section(tmp_path: Path) -> None:
    """An empty file says what to add."""
    path = tmp_path / "tokenmill.toml"
    path.write_text("")
    assert problems(path) == (f"{path} has no section; add [chat] with model, region, traffic and slo",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[chat]\nregion = = 3\n", r"is not TOML: invalid value \(at line 2, column 10\)"),
        (b"\xff", "is not text"),
    ],
)
def test_fails_for_a_file_that_is_not_toml(tmp_path: Path, content: bytes, message: str) -> None:
    """Line and column stand in the message."""
    path = tmp_path / "tokenmill.toml"
    path.write_bytes(content)
    with pytest.raises(TokenmillError, match=message):
        load_settings(path)
    with pytest.raises(TokenmillError, match="none.toml does not exist"):
        load_settings(tmp_path / "none.toml")


def test_context_overrides_single_keys(settings_file: SettingsFile) -> None:
    """Values are TOML where they are TOML; keys that name no stack belong to somebody else."""
    context = {
        "tokenmill:chat.region": "us-west-2",
        "tokenmill:chat.traffic.requests_per_second": "7.5",
        "tokenmill:chat.limits.instances": ["ml.g5.*"],
        "tokenmill:nag-packs": "AwsSolutions",
        "@aws-cdk/core:something": True,
    }
    chat = load_settings(settings_file(), context=context)["chat"]
    assert (chat.region, chat.workload.requests_per_second) == ("us-west-2", 7.5)
    assert chat.limits.instances == ("ml.g5.*",)


def test_fails_for_context_that_names_no_key_or_goes_through_a_value(settings_file: SettingsFile) -> None:
    """Each bad context key is one problem."""
    with pytest.raises(SettingsError) as caught:
        load_settings(settings_file(), context={"tokenmill:chat": "x", "tokenmill:chat.region.deep.er": "y"})
    assert caught.value.problems == (
        "context tokenmill:chat must name a key, such as tokenmill:chat.region",
        "context tokenmill:chat.region.deep.er goes through a key that is not a table",
    )


def test_settings_may_stand_in_no_file(tmp_path: Path) -> None:
    """The command line can give all of them."""
    keys = {
        "model": "Qwen/Qwen3-8B",
        "region": "us-east-1",
        "traffic.requests_per_second": 1.0,
        "traffic.input_tokens": 100,
        "traffic.output_tokens": 100,
        "slo.ttft_ms": 1000.0,
        "slo.itl_ms": 50.0,
    }
    made = settings_from("chat", tmp_path / "tokenmill.toml", keys)
    assert made.workload.input_tokens == 100
    with pytest.raises(SettingsError, match="unknown stack 'chet'; allowed: chat, rag"):
        settings_from("chet", tmp_path / "tokenmill.toml", keys)


def test_a_plan_is_read_while_inputs_and_catalogs_are_the_same(settings_file: SettingsFile) -> None:
    """No warning, no planning."""
    chat = load_settings(settings_file())["chat"]
    made = plan_for(chat)
    made.write(chat.plan_path)
    assert read_plan(chat) == (made, ())


def test_changed_inputs_are_refused_with_the_command_that_accepts_them(settings_file: SettingsFile) -> None:
    """Synth never plans again by itself."""
    chat = load_settings(settings_file())["chat"]
    with pytest.raises(TokenmillError, match=r"does not exist; run: tokenmill plan chat --write"):
        read_plan(chat)
    plan_for(chat).write(chat.plan_path)
    changed = load_settings(settings_file(("itl_ms = 60", "itl_ms = 61")))["chat"]
    with pytest.raises(
        TokenmillError, match="was made from other inputs .* --diff; accept it with: tokenmill"
    ):
        read_plan(changed)


def test_a_changed_model_file_counts_as_a_changed_input(settings_file: SettingsFile) -> None:
    """Its content is part of the digest, its layout is not."""
    chat = load_settings(settings_file())["chat"]
    plan_for(chat).write(chat.plan_path)
    text = chat.model_path.read_text()
    chat.model_path.write_text(text.replace("\n", "\n "))
    read_plan(chat)
    chat.model_path.write_text(text.replace('"rope_theta": 1000000', '"rope_theta": 1000001'))
    with pytest.raises(TokenmillError, match="other inputs"):
        read_plan(chat)


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('"id": "Qwen/Qwen3-8B"', '"id": "Qwen/Qwen3-9B"', "model"),
        ('"region": "us-east-1"', '"region": "us-west-2"', "region"),
        ('"stack": "chat"', '"stack": "rag"', "stack"),
        ('"ttft_ms": 2000.0', '"ttft_ms": 9000.0', "slo"),
        ('"max_instances": 100', '"max_instances": 7', "limits"),
        ('"requests_per_second": 2.0', '"requests_per_second": 3.0', "traffic"),
    ],
)
def test_a_plan_whose_inputs_were_edited_by_hand_is_refused(
    settings_file: SettingsFile, old: str, new: str, names: str
) -> None:
    """Its digest still fits the settings, so what it says of them is compared too."""
    chat = load_settings(settings_file())["chat"]
    plan_for(chat).write(chat.plan_path)
    text = chat.plan_path.read_text()
    assert old in text
    chat.plan_path.write_text(text.replace(old, new, 1))
    with pytest.raises(TokenmillError) as caught:
        read_plan(chat)
    assert str(caught.value) == (
        f"plan file {chat.plan_path} was edited by hand: its {names} is not what it was made from; write it "
        "again with: tokenmill plan chat --write"
    )


def test_a_plan_that_lost_its_candidates_is_refused(settings_file: SettingsFile) -> None:
    """A message there is, even where the planner never wrote one."""
    chat = load_settings(settings_file())["chat"]
    with pytest.raises(NoPlanError) as caught:
        _ = replace(plan_for(chat), candidates=()).chosen
    assert (
        str(caught.value)
        == "the plan of chat has no candidate; write it again with: tokenmill plan chat --write"
    )


def test_changed_catalogs_only_warn(settings_file: SettingsFile) -> None:
    """A refreshed price must never replace a fleet by itself."""
    chat = load_settings(settings_file())["chat"]
    plan_for(chat).write(chat.plan_path)
    text = chat.plan_path.read_text().replace('"prices": "2026-08-17"', '"prices": "2026-01-01"')
    chat.plan_path.write_text(text)
    made, warnings = read_plan(chat)
    assert made.chosen.instance_type.startswith("ml.inf2.")
    assert len(warnings) == 1
    assert "(prices 2026-01-01 -> 2026-08-17); it still holds" in warnings[0]
