"""Prompts of Prompt management, their versions, and what a call to one becomes.

Source: Agents for Amazon Bedrock API Reference, "CreatePrompt", "CreatePromptVersion", "GetPrompt",
"UpdatePrompt" and "DeletePrompt"; Amazon Bedrock API Reference, "Converse" (`modelId`, `promptVariables`).
"""

from __future__ import annotations

import copy
import re
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import AwsError, ModelledService, Params, Scope
from tokenmill.local.bedrock.paging import page
from tokenmill.local.rest_json import RestShapes

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Operation
    from tokenmill.local.bedrock.control import BedrockControl

DRAFT = "DRAFT"
_VARIABLE = re.compile(r"\{\{\s*(\w[\w-]*)\s*\}\}")
_KEPT = ("name", "description", "customerEncryptionKeyArn", "defaultVariant", "variants")
# What a request to a prompt may not have beside the prompt's own: Converse, `modelId`.
DEFINED_BY_PROMPT = ("additionalModelRequestFields", "inferenceConfig", "system", "toolConfig")


@dataclass(slots=True, kw_only=True)
class PromptRecord:
    """One prompt.

    Args:
        id: Its id, of ten characters.
        arn: Its ARN, without a version.
        versions: Its draft and versions as GetPrompt describes them.
        issued: How many versions were made.
    """

    id: str
    arn: str
    versions: dict[str, Params] = field(default_factory=dict)
    issued: int = 0


class Prompts(ModelledService):
    """The part of Bedrock's agent API that has prompts.

    Args:
        control: The control plane, for ids and the time.
    """

    title = "Bedrock Agents"
    shapes = RestShapes("bedrock-agent")

    def __init__(self, control: BedrockControl) -> None:
        self._control = control
        self._records: defaultdict[Scope, dict[str, PromptRecord]] = defaultdict(dict)
        self._tags: dict[str, dict[str, str]] = {}
        self._tokens: dict[tuple[Scope, str], Params] = {}
        self.lock = threading.RLock()
        self._operations: dict[str, Operation] = {
            "CreatePrompt": self._create,
            "UpdatePrompt": self._update,
            "CreatePromptVersion": self._create_version,
            "GetPrompt": self._get,
            "ListPrompts": self._list,
            "DeletePrompt": self._delete,
            "ListTagsForResource": lambda _, params: {"tags": dict(self._tagged(params))},
            "TagResource": self._tag,
            "UntagResource": self._untag,
        }

    def serves(self, method: str, path: str) -> bool:
        """Whether a request is one about prompts.

        Args:
            method: Its method.
            path: Its path, percent-encoded.
        """
        about_prompts = path.startswith("/prompts") or (path.startswith("/tags/") and "prompt" in path)
        return about_prompts and self.shapes.find(method, path) is not None

    def find(self, scope: Scope, identifier: str, version: str = DRAFT) -> Params:
        """Return a prompt's draft or version as GetPrompt does.

        Args:
            scope: Whose.
            identifier: Id or ARN; an ARN may end with `:VERSION`.
            version: The version, where the identifier names none.

        Raises:
            AwsError: There is none.
        """
        identity, _, named = identifier.rsplit("/", 1)[-1].partition(":")
        record = self._records[scope].get(identity)
        if record is None:
            raise AwsError("ResourceNotFoundException", f"The prompt {identifier} was not found", status=404)
        found = record.versions.get(named or version)
        if found is None:
            raise AwsError(
                "ResourceNotFoundException",
                f"The prompt {identity} has no version {named or version}",
                status=404,
            )
        return found

    def _create(self, scope: Scope, params: Params) -> Params:
        told = self._tokens.get((scope, params.get("clientToken", "")))
        if told is not None and told["id"] in self._records[scope]:
            return told
        if any(r.versions[DRAFT]["name"] == params["name"] for r in self._records[scope].values()):
            raise AwsError("ConflictException", f"A prompt named {params['name']} exists already")
        _check(params)
        identity = self._control.new_id(scope)[:10].upper()
        arn, when = scope.arn("bedrock", f"prompt/{identity}"), self._control.now()
        draft: Params = {
            **{name: params[name] for name in _KEPT if name in params},
            "id": identity,
            "arn": arn,
            "version": DRAFT,
            "createdAt": when,
            "updatedAt": when,
        }
        self._records[scope][identity] = PromptRecord(id=identity, arn=arn, versions={DRAFT: draft})
        self._tags[arn] = dict(params.get("tags") or {})
        if "clientToken" in params:
            self._tokens[(scope, params["clientToken"])] = draft
        return draft

    def _update(self, scope: Scope, params: Params) -> Params:
        draft = self.find(scope, params["promptIdentifier"])
        _check(params)
        fresh = {name: params[name] for name in _KEPT if name in params}
        kept = {name: draft[name] for name in ("id", "arn", "version", "createdAt")}
        record = self._records[scope][draft["id"]]
        record.versions[DRAFT] = {**fresh, **kept, "updatedAt": self._control.now()}
        return record.versions[DRAFT]

    def _create_version(self, scope: Scope, params: Params) -> Params:
        draft = self.find(scope, params["promptIdentifier"])
        record = self._records[scope][draft["id"]]
        record.issued += 1
        number, when = str(record.issued), self._control.now()
        version = copy.deepcopy(draft)
        version |= {"arn": f"{record.arn}:{number}", "version": number, "createdAt": when, "updatedAt": when}
        version.pop("description", None)
        if "description" in params:
            version["description"] = params["description"]
        record.versions[number] = version
        self._tags[version["arn"]] = dict(params.get("tags") or {})
        return version

    def _get(self, scope: Scope, params: Params) -> Params:
        return self.find(scope, params["promptIdentifier"], params.get("promptVersion", DRAFT))

    def _list(self, scope: Scope, params: Params) -> Params:
        if "promptIdentifier" in params:
            draft = self.find(scope, params["promptIdentifier"])
            found = list(self._records[scope][draft["id"]].versions.values())
        else:
            found = [record.versions[DRAFT] for record in self._records[scope].values()]
        kept = ("name", "description", "id", "arn", "version", "createdAt", "updatedAt")
        entries = [{name: entry[name] for name in kept if name in entry} for entry in found]
        some, token = page(entries, params)
        return {"promptSummaries": some, **({} if token is None else {"nextToken": token})}

    def _delete(self, scope: Scope, params: Params) -> Params:
        draft = self.find(scope, params["promptIdentifier"])
        record, version = self._records[scope][draft["id"]], params.get("promptVersion")
        if version is None:
            del self._records[scope][record.id]
            for each in record.versions.values():
                self._tags.pop(each["arn"], None)
            return {"id": record.id}
        self._tags.pop(self.find(scope, record.id, version)["arn"], None)
        del record.versions[version]
        return {"id": record.id, "version": version}

    def _tag(self, _scope: Scope, params: Params) -> Params:
        self._tagged(params).update(params["tags"])
        return {}

    def _untag(self, _scope: Scope, params: Params) -> Params:
        for key in params["tagKeys"]:
            self._tagged(params).pop(key, None)
        return {}

    def _tagged(self, params: Params) -> dict[str, str]:
        arn = params["resourceArn"]
        if arn not in self._tags:
            raise AwsError("ResourceNotFoundException", f"The resource {arn} was not found", status=404)
        return self._tags[arn]


def _check(params: Params) -> None:
    names = [variant["name"] for variant in params.get("variants") or []]
    default = params.get("defaultVariant")
    if default is not None and default not in names:
        raise AwsError("ValidationException", f"defaultVariant {default} is not among the variants {names}")


def rendered(prompt: Params, request: Params) -> tuple[str, Params]:
    """Return the model and the Converse request that a call to a prompt becomes.

    Args:
        prompt: As GetPrompt describes it.
        request: The Converse request, with `promptVariables` and perhaps further messages.

    Raises:
        AwsError: The request has what the prompt defines, a variable is missing, or the prompt has no model.
    """
    refused = [name for name in DEFINED_BY_PROMPT if name in request]
    if refused:
        raise AwsError(
            "ValidationException", f"{', '.join(refused)} must be defined in the prompt, not in the request"
        )
    variants = prompt.get("variants") or []
    variant = next((v for v in variants if v["name"] == prompt.get("defaultVariant")), None)
    if variant is None or "modelId" not in variant:
        raise AwsError(
            "ValidationException", f"The prompt {prompt['arn']} has no default variant with a model"
        )
    values = {name: value.get("text", "") for name, value in (request.get("promptVariables") or {}).items()}
    made = _messages(variant["templateConfiguration"], values)
    made["messages"] = made["messages"] + (request.get("messages") or [])
    config = (variant.get("inferenceConfiguration") or {}).get("text")
    if config:
        made["inferenceConfig"] = config
    if "additionalModelRequestFields" in variant:
        made["additionalModelRequestFields"] = variant["additionalModelRequestFields"]
    rest = {name: value for name, value in request.items() if name not in ("promptVariables", "messages")}
    return variant["modelId"], {**rest, **made}


def _messages(template: Params, values: dict[str, str]) -> Params:
    if "text" in template:
        block: list[Params] = [{"text": _filled(template["text"]["text"], values)}]
        if "cachePoint" in template["text"]:
            block.append({"cachePoint": template["text"]["cachePoint"]})
        return {"messages": [{"role": "user", "content": block}]}
    chat = template["chat"]
    made: Params = {
        "messages": [
            {"role": message["role"], "content": _blocks(message["content"], values)}
            for message in chat["messages"]
        ]
    }
    if chat.get("system"):
        made["system"] = _blocks(chat["system"], values)
    if chat.get("toolConfiguration"):
        made["toolConfig"] = chat["toolConfiguration"]
    return made


def _blocks(blocks: list[Params], values: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {**block, "text": _filled(block["text"], values)} if "text" in block else block for block in blocks
    ]


def _filled(text: str, values: dict[str, str]) -> str:
    missing = sorted({name for name in _VARIABLE.findall(text) if name not in values})
    if missing:
        raise AwsError("ValidationException", f"promptVariables has no value for {', '.join(missing)}")
    return _VARIABLE.sub(lambda found: values[found.group(1)], text)
