"""Answers to auditors in a file reach the resources that it names, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
import pytest
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs

from tokenmill.core.errors import TokenmillError
from tokenmill.lint import acknowledge_from

if TYPE_CHECKING:
    from pathlib import Path

ANSWERS = """
[[answers]]
type = "AWS::SQS::Queue"
path = "*/Mine*"
rules = ["CKV_AWS_27", "W3005"]
reason = "The queue holds names and no secret."
"""


@pytest.fixture
def stack(tmp_path: Path) -> cdk.Stack:
    """A queue that the file names, one that it does not, and another type."""
    app = cdk.App(outdir=str(tmp_path / "out"))
    made = cdk.Stack(app, "s")
    sqs.CfnQueue(made, "Mine")
    sqs.CfnQueue(made, "Theirs")
    sns.CfnTopic(made, "MineToo")
    return made


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "answers.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_type_and_path_both_have_to_fit(stack: cdk.Stack, tmp_path: Path) -> None:
    """The reason stands where checkov and cfn-lint read it, on one queue only."""
    acknowledge_from(stack, write(tmp_path, ANSWERS))
    resources = cdk.App.of(stack).synth().get_stack_by_name("s").template["Resources"]
    metadata = {name: made.get("Metadata", {}) for name, made in resources.items()}
    assert metadata["Mine"]["checkov"]["skip"] == [
        {"id": "CKV_AWS_27", "comment": "The queue holds names and no secret."}
    ]
    assert "checkov" not in metadata["Theirs"] and "checkov" not in metadata["MineToo"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[answers]", "is no TOML"),
        ("x = 1", r"has no \[\[answers\]\]; give at least one"),
        ('[[answers]]\ntype = "T"\nreason = "r"', "answer 1 needs type and reason as texts and rules"),
        ('[[answers]]\nrule = "T"', "answer 1 has rule; known are path, reason, rules, type"),
        ('[[answers]]\ntype = "T"\nrules = ["W1"]\nreason = "a b c"', "answers for no resource of s"),
    ],
)
def test_fails_for_a_file_that_answers_nothing(
    text: str, words: str, stack: cdk.Stack, tmp_path: Path
) -> None:
    """A typing error must not look like an answer."""
    with pytest.raises(TokenmillError, match=words):
        acknowledge_from(stack, write(tmp_path, text))


def test_fails_without_the_file(stack: cdk.Stack, tmp_path: Path) -> None:
    """The path stands in the message."""
    with pytest.raises(TokenmillError, match="cannot read the answers .*none.toml: No such file"):
        acknowledge_from(stack, tmp_path / "none.toml")
