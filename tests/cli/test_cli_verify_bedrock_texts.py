"""The probes about guardrails and managed prompts of Amazon Bedrock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import support_verify
from support_fake_aws import ACCOUNT, AwsError
from support_fake_bedrock import MOMENT, NOVA, PREFIX, BedrockWorld
from support_fake_components import Queues
from support_fake_services import Stacks
from support_verify import only, probe
from tokenmill.local.event_stream import encode_message
from tokenmill.verification import LINES, Verdict
from tokenmill.verification import bedrock_text_lines as texts
from tokenmill.verification.aws import Pace
from tokenmill.verification.bedrock_prompt_lines import ARN_REFS
from tokenmill.verification.line import Deployment

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from support_fake_aws import Resources

GUARDRAILS = [line.id for line in LINES if line.deployment is Deployment.BEDROCK_GUARDRAILS]
PROMPTS = [line.id for line in LINES if line.deployment is Deployment.BEDROCK_PROMPTS]
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/00000000-0000-0000-0000-000000000000"


class Texts(BedrockWorld):
    """Guardrails and prompts that do what is claimed; the attributes say what else they do."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.keys = Queues(resources)
        self.quotas = {"(Guardrails) Versions per guardrail": 20.0}
        self.told, self.masked_stop, self.end = texts.TOLD_INPUT, texts.INTERVENED, texts.TOLD_OUTPUT
        self.masked_text = "When was {ticket} opened?"
        self.longest = texts.PIECE
        self.dimensions = ("GuardrailArn", "GuardrailVersion")
        self.takes_all, self.grounded, self.key_is_needed = False, False, True
        self.options_taken, self.render_is_needed, self.kept = True, True, True
        self._encrypted: set[str] = set()
        self._grounding: set[str] = set()
        self._prompts: dict[str, list[dict[str, Any]]] = {}
        self._install_guardrails()
        self._install_prompts()
        self.stacks = Stacks(resources, lambda *_: None)
        self.outputs = {f"{key}{end}": f"arn-{key}" for key in ARN_REFS for end in ("Ref", "Arn")}
        self.outputs |= {"GuardrailId": "id", "VersionNumber": "1", "VersionRef": "id|1"}
        described = self.fake.answers["cloudformation", "DescribeStacks"]
        self.fake.answers["cloudformation", "DescribeStacks"] = lambda p: self._with_outputs(described(p))

    def _install_guardrails(self) -> None:
        self.answer("bedrock", "CreateGuardrail", self._create_guardrail)
        self.answer("bedrock", "DeleteGuardrail", lambda p: self.drop("Guardrail", p["guardrailIdentifier"]))
        self.answer("bedrock", "ListGuardrails", self._guardrails)
        self.fake.answers["bedrock", "GetGuardrail"] = lambda _: {"status": "READY"}
        self.answer("bedrock-runtime", "ApplyGuardrail", self._apply)
        self.answer("bedrock-runtime", "Converse", self._ask)
        self.fake.raw[f"/model/{NOVA[0].replace(':', '%3A')}/converse-stream"] = self._stream
        self.fake.answers["cloudwatch", "ListMetrics"] = self._guardrail_metrics
        self.fake.answers["kms", "CreateKey"] = self._create_key

    def _install_prompts(self) -> None:
        answers = self.fake.answers
        answers["bedrock-agent", "CreatePrompt"] = self._create_prompt
        answers["bedrock-agent", "UpdatePrompt"] = self._update_prompt
        answers["bedrock-agent", "CreatePromptVersion"] = self._version
        answers["bedrock-agent", "GetPrompt"] = self._get_prompt
        answers["bedrock-agent", "ListPrompts"] = lambda _: {
            "promptSummaries": [
                {"name": name, "id": arn.rpartition("/")[2]} for arn, name in self.named["Prompt"].items()
            ]
        }
        answers["bedrock-agent", "DeletePrompt"] = lambda p: (
            self.drop("Prompt", p["promptIdentifier"]) or {"id": p["promptIdentifier"]}
        )

    def _create_key(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.keys.keys["ours"] = parameters["Description"]
        self.resources.create("Key", "ours")
        return {"KeyMetadata": {"KeyId": "ours", "Arn": KEY}}

    def _create_guardrail(self, parameters: dict[str, Any]) -> dict[str, Any]:
        policies = str(parameters)
        if not self.takes_all and ("(?<=" in policies or "'threshold': 1.0" in policies):
            raise AwsError("ValidationException", "that is not allowed")
        arn = self.make("Guardrail", parameters["name"], resource="guardrail")
        own = arn.rpartition("/")[2]
        self._encrypted |= {own} if "kmsKeyId" in parameters else set()
        self._grounding |= {own} if "contextualGroundingPolicyConfig" in parameters else set()
        return {"guardrailId": own, "guardrailArn": arn, "version": "DRAFT", "createdAt": MOMENT}

    def _guardrails(self, _: dict[str, Any]) -> dict[str, Any]:
        times = {"createdAt": MOMENT, "updatedAt": MOMENT}
        return {
            "guardrails": [
                {
                    "id": arn.rpartition("/")[2],
                    "arn": arn,
                    "status": "READY",
                    "name": name,
                    "version": "DRAFT",
                    **times,
                }
                for arn, name in self.named["Guardrail"].items()
            ]
        }

    def _apply(self, parameters: dict[str, Any]) -> dict[str, Any]:
        own = parameters["guardrailIdentifier"]
        self.require("bedrock:ApplyGuardrail", self.find("Guardrail", own))
        if own in self._encrypted and self.key_is_needed:
            self.require("kms:Decrypt", KEY)
        text = parameters["content"][0]["text"]["text"]
        if len(text) > self.longest:
            raise AwsError("ValidationException", "too many text units")
        names = (
            "topicPolicyUnits", "contentPolicyUnits", "wordPolicyUnits", "sensitiveInformationPolicyUnits",
            "sensitiveInformationPolicyFreeUnits", "contextualGroundingPolicyUnits",
        )  # fmt: skip
        answer = {"usage": dict.fromkeys(names, 0), "action": "NONE", "outputs": [], "assessments": []}
        if texts.BLOCKED in text:
            word = {"match": texts.BLOCKED, "action": "BLOCKED"}
            found = {"wordPolicy": {"customWords": [word], "managedWordLists": []}}
            outputs = [{"text": texts.TOLD_INPUT}]
        elif texts.MASKED in text:
            regex = {"name": "ticket", "action": "ANONYMIZED"}
            found = {"sensitiveInformationPolicy": {"piiEntities": [], "regexes": [regex]}}
            outputs = [{"text": self.masked_text}]
        else:
            return answer
        return {**answer, "action": "GUARDRAIL_INTERVENED", "outputs": outputs, "assessments": [found]}

    def _ask(self, parameters: dict[str, Any]) -> dict[str, Any]:
        model, config = parameters["modelId"], parameters.get("guardrailConfig", {})
        if ":prompt/" in model:
            return self._ask_prompt(model, parameters)
        text = parameters["messages"][0]["content"][0]["text"]
        if texts.BLOCKED in text:
            return self.said(self.told, stop=texts.INTERVENED)
        if texts.MASKED in text:
            regexes = [{"name": "ticket", "action": "ANONYMIZED"}]
            policy = {"sensitiveInformationPolicy": {"piiEntities": [], "regexes": regexes}}
            trace = {"guardrail": {"outputAssessments": {"id": [policy]}}}
            return self.said("{ticket} is open.", stop=self.masked_stop, trace=trace)
        if config.get("guardrailIdentifier") in self._grounding and self.grounded:
            scores = [{"type": "GROUNDING", "threshold": 0.99, "score": 0.1, "action": "NONE"}]
            policy = {"contextualGroundingPolicy": {"filters": scores}}
            return self.said("yes", trace={"guardrail": {"outputAssessments": {"id": [policy]}}})
        return self.converse(parameters)

    def _stream(self, request: BaseHTTPRequestHandler) -> None:
        def event(kind: str, **content: Any) -> bytes:
            headers = {":message-type": "event", ":event-type": kind, ":content-type": "application/json"}
            return encode_message(headers, json.dumps(content).encode())

        deltas = ["", self.end]
        body = b"".join(
            event("contentBlockDelta", contentBlockIndex=0, delta={"text": text}) for text in deltas
        ) + event("messageStop", stopReason=texts.INTERVENED)
        request.send_response(200)
        request.send_header("Content-Type", "application/vnd.amazon.eventstream")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _guardrail_metrics(self, parameters: dict[str, Any]) -> dict[str, Any]:
        values = {"GuardrailVersion": "DRAFT"}
        return {
            "Metrics": [
                {
                    "MetricName": "Invocations",
                    "Dimensions": [
                        {"Name": name, "Value": {**values, "GuardrailArn": arn}.get(name, "x")}
                        for name in self.dimensions
                    ],
                }
                for arn in self.named["Guardrail"]
            ]
        }

    def _create_prompt(self, parameters: dict[str, Any]) -> dict[str, Any]:
        arn = self.make("Prompt", parameters["name"], resource="prompt")
        self._prompts[arn] = [parameters["variants"][0]]
        return {"id": arn.rpartition("/")[2], "arn": arn}

    def _update_prompt(self, parameters: dict[str, Any]) -> dict[str, Any]:
        arn = self.find("Prompt", parameters["promptIdentifier"])
        self._prompts[arn][0] = parameters["variants"][0]
        if not self.kept:
            self._prompts[arn][1:] = [parameters["variants"][0]] * len(self._prompts[arn][1:])
        return {"id": parameters["promptIdentifier"]}

    def _version(self, parameters: dict[str, Any]) -> dict[str, Any]:
        arn = self.find("Prompt", parameters["promptIdentifier"])
        self._prompts[arn].append(self._prompts[arn][0])
        return {"arn": f"{arn}:{len(self._prompts[arn]) - 1}"}

    def _get_prompt(self, parameters: dict[str, Any]) -> dict[str, Any]:
        arn = self.find("Prompt", parameters["promptIdentifier"])
        return {"variants": [self._prompts[arn][int(parameters["promptVersion"])]]}

    def _ask_prompt(self, model: str, parameters: dict[str, Any]) -> dict[str, Any]:
        # "Converse": with a prompt, none of these may be given.
        assert not {"messages", "inferenceConfig", "system"} & set(parameters)
        if self.render_is_needed:
            self.require("bedrock:RenderPrompt", model)
        self.invoke(f"{PREFIX}::foundation-model/{NOVA[0]}")
        if not self.options_taken and {"serviceTier", "performanceConfig"} & set(parameters):
            raise AwsError("ValidationException", "not beside a prompt")
        return self.said("one")

    def _with_outputs(self, answer: dict[str, Any]) -> dict[str, Any]:
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in self.outputs.items()]
        return {"Stacks": [{**stack, "Outputs": outputs} for stack in answer["Stacks"]]}


@pytest.fixture
def world(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Texts:
    monkeypatch.setattr(support_verify, "HURRIED", Pace(poll_seconds=0.01, settle_seconds=0.05))
    return Texts(resources)


@pytest.mark.parametrize("lines", [GUARDRAILS, PROMPTS])
def test_an_aws_that_does_what_is_claimed_makes_every_line_hold(
    world: Texts, tmp_path: Path, lines: list[str]
) -> None:
    result = probe(tmp_path, *lines)
    wrong = {piece.line: piece.observations for piece in result.evidence if piece.verdict != "holds"}
    assert (wrong, world.resources.left, result.left) == ({}, set(), ())


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("guardrail-blocked-input", {"told": "Sorry."}),
        ("guardrail-masked-stop", {"masked_stop": "end_turn"}),
        ("guardrail-stream-end", {"end": "Sorry."}),
        ("guardrail-masking", {"masked_text": f"When was {texts.MASKED} opened?"}),
        ("guardrail-masking", {"masked_text": ""}),
        ("guardrail-piece", {"longest": 1000}),
        ("guardrail-metrics", {"dimensions": ("GuardrailArn",)}),
        ("guardrail-versions", {"quotas": {"Versions per guardrail": 10.0}}),
        ("guardrail-limits", {"takes_all": True}),
        ("guardrail-grounding", {"grounded": True}),
        ("guardrail-key", {"key_is_needed": False}),
        ("prompt-options", {"options_taken": False}),
        ("prompt-rights", {"render_is_needed": False}),
        ("prompt-version-kept", {"kept": False}),
        ("bedrock-refs", {"outputs": {"VersionRef": "id/1"}}),
    ],
)
def test_another_behaviour_fails(world: Texts, tmp_path: Path, line: str, change: dict[str, Any]) -> None:
    for name, value in change.items():
        setattr(world, name, {**world.outputs, **value} if name == "outputs" else value)
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is Verdict.FAILS, evidence.observations
    assert world.resources.left == set()


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("guardrail-metrics", {"dimensions": ("Operation",)}),
        ("guardrail-versions", {"quotas": {}}),
        ("guardrail-blocked-input", {"told": "yes"}),
    ],
)
def test_what_says_nothing_is_unclear(
    world: Texts, tmp_path: Path, line: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in change.items():
        setattr(world, name, value)
    if line == "guardrail-blocked-input":
        # A guardrail that does not intervene.
        monkeypatch.setattr(world, "said", lambda text, **_: BedrockWorld.said(text))
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is Verdict.UNCLEAR, evidence.observations
