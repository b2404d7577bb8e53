"""The document that a stack renders into the gateway function's environment.

One dataclass on both sides: the construct builds it and renders `GatewayConfig.to_document`, the function
reads it with `GatewayConfig.from_environment`. Values may be unresolved tokens when the construct builds it,
so only reading checks them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final, Literal, cast

from tokenmill_runtime.gateway_options import BedrockUse, GuardrailUse, OptionsReader, without_nothing
from tokenmill_runtime.token_work import TokenWorkCoefficients

if TYPE_CHECKING:
    from collections.abc import Mapping

GATEWAY_VARIABLE: Final = "TOKENMILL_GATEWAY"
SCHEMA: Final = 1
BACKENDS: Final = ("sagemaker", "bedrock")

Backend = Literal["sagemaker", "bedrock"]


class GatewayConfigError(ValueError):
    """No gateway can run on the document; ``problems`` has every reason, and ``str()`` one a line."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayModel:
    """One model that callers may name, and where it is served.

    ``endpoint`` and ``component`` are SageMaker names and empty for Bedrock; an endpoint of one variant has
    no component. ``target`` is the value of the metrics' Target dimension. Token limits count tokens of one
    request. ``guardrail`` and ``bedrock`` say how the model is asked.
    """

    name: str
    backend: Backend
    target: str
    context_tokens: int
    max_output_tokens: int
    token_work: TokenWorkCoefficients
    endpoint: str | None = None
    component: str | None = None
    bedrock_model_id: str | None = None
    guardrail: GuardrailUse | None = None
    bedrock: BedrockUse | None = None

    def to_document(self) -> dict[str, object]:
        """The model's part of the gateway's document; options that are not used are left out."""
        document = asdict(self)
        for name in ("guardrail", "bedrock"):
            options = without_nothing(document.pop(name))
            if options is not None:
                document[name] = options
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """What a gateway serves and what it remembers; TTL in days, body limit in bytes."""

    plan_hash: str
    models: tuple[GatewayModel, ...]
    conversation_table: str | None = None
    conversation_ttl_days: int = 30
    max_body_bytes: int = 1_048_576

    def to_document(self) -> dict[str, object]:
        """The JSON-safe document that `from_document` reads back to an equal value."""
        return {"schema": SCHEMA, **asdict(self), "models": [model.to_document() for model in self.models]}

    @classmethod
    def from_document(cls, document: object) -> GatewayConfig:
        """Read a rendered document; raises GatewayConfigError with every problem at once."""
        reader = _Reader()
        body = reader.mapping(document, "the gateway document")
        if body.get("schema") != SCHEMA:
            reader.problems.append(f"schema must be {SCHEMA}, got {body.get('schema')!r}")
        reader.only(body, "", {"schema", *cls.__dataclass_fields__})
        models = reader.models(body.get("models"))
        table = reader.text(body, "", "conversation_table", optional=True)
        plan_hash = reader.text(body, "", "plan_hash")
        ttl_days = reader.count(body, "", "conversation_ttl_days")
        max_body_bytes = reader.count(body, "", "max_body_bytes")
        if reader.problems or plan_hash is None:
            raise GatewayConfigError(tuple(reader.problems))
        return cls(
            plan_hash=plan_hash,
            models=models,
            conversation_table=table,
            conversation_ttl_days=ttl_days,
            max_body_bytes=max_body_bytes,
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> GatewayConfig:
        """Read the document from the function's environment; raises GatewayConfigError."""
        text = environment.get(GATEWAY_VARIABLE)
        if text is None:
            raise GatewayConfigError(
                (f"environment variable {GATEWAY_VARIABLE} is not set; ChatGateway renders it",)
            )
        try:
            document = json.loads(text)
        except ValueError as error:
            raise GatewayConfigError((f"{GATEWAY_VARIABLE} is not JSON: {error}",)) from error
        return cls.from_document(document)


@dataclass(slots=True)
class _Reader:
    """Takes values out of an untyped document and gathers what is wrong with them."""

    problems: list[str] = field(default_factory=list)

    def mapping(self, value: object, where: str) -> Mapping[str, object]:
        if isinstance(value, dict):
            return value
        self.problems.append(f"{where} must be a JSON object, got {value!r}")
        return {}

    def only(self, body: Mapping[str, object], where: str, allowed: set[str]) -> None:
        for key in sorted(set(body) - allowed):
            self.problems.append(f"{where}{key} is unknown; known are {', '.join(sorted(allowed))}")

    def text(self, body: Mapping[str, object], where: str, key: str, *, optional: bool = False) -> str | None:
        value = body.get(key)
        if (isinstance(value, str) and value) or (optional and value is None):
            return value
        allowed = "a text or null" if optional else "a text"
        self.problems.append(f"{where}{key} must be {allowed}, got {value!r}")
        return None

    def count(self, body: Mapping[str, object], where: str, key: str) -> int:
        value = body.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        self.problems.append(f"{where}{key} must be an integer above 0, got {value!r}")
        return 0

    def models(self, value: object) -> tuple[GatewayModel, ...]:
        if not isinstance(value, list) or not value:
            self.problems.append(f"models must be a list with at least one model, got {value!r}")
            return ()
        found = [self.model(item, f"models[{number}]") for number, item in enumerate(value)]
        models = tuple(model for model in found if model is not None)
        names = [model.name for model in models]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(f"models must have different names, got {name!r} more than once")
        return models

    def model(self, value: object, at: str) -> GatewayModel | None:
        before = len(self.problems)
        body = self.mapping(value, at)
        where = f"{at}."
        backend = body.get("backend")
        if backend not in BACKENDS:
            self.problems.append(f"{where}backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
        self.only(body, where, set(GatewayModel.__dataclass_fields__))
        on_sagemaker = backend == "sagemaker"
        name = self.text(body, where, "name")
        target = self.text(body, where, "target")
        context_tokens = self.count(body, where, "context_tokens")
        max_output_tokens = self.count(body, where, "max_output_tokens")
        endpoint = self.text(body, where, "endpoint", optional=not on_sagemaker)
        component = self.text(body, where, "component", optional=True)
        bedrock_model_id = self.text(body, where, "bedrock_model_id", optional=backend != "bedrock")
        work = self.work(body.get("token_work"), where)
        options = OptionsReader(self.problems)
        guardrail = options.guardrail(body.get("guardrail"), f"{where}guardrail")
        bedrock = options.bedrock(body.get("bedrock"), f"{where}bedrock")
        if len(self.problems) > before or work is None or name is None or target is None:
            return None
        return GatewayModel(
            name=name,
            backend=cast("Backend", backend),
            target=target,
            context_tokens=context_tokens,
            max_output_tokens=max_output_tokens,
            token_work=work,
            endpoint=endpoint,
            component=component,
            bedrock_model_id=bedrock_model_id,
            guardrail=guardrail,
            bedrock=bedrock,
        )

    def work(self, value: object, where: str) -> TokenWorkCoefficients | None:
        try:
            return TokenWorkCoefficients.from_json(self.mapping(value, f"{where}token_work"))
        except ValueError as error:
            self.problems.append(f"{where}token_work: {error}")
            return None
