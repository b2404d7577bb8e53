"""Requests of AWS's JSON protocol, checked against the service models that botocore ships."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import botocore.session
from botocore.exceptions import ParamValidationError
from botocore.model import ListShape, MapShape, StructureShape
from botocore.validate import ParamValidator

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from botocore.model import OperationModel, ServiceModel, Shape

    Operation = Callable[["Scope", "Params"], "Params"]

Params = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose resources a request sees."""

    account: str
    region: str

    def arn(self, service: str, resource: str) -> str:
        """Return an ARN in this account and region.

        Args:
            service: Service part, such as `sagemaker`.
            resource: Resource part, such as `endpoint/name`.
        """
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


class AwsError(Exception):
    """An error as the service answers it.

    Args:
        code: The service's error code.
        message: The service's message.
        status: HTTP status.
        members: Further members of the error's shape.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, **members: object) -> None:
        self.code = code
        self.message = message
        self.status = status
        self.members = members
        super().__init__(f"{code}: {message}")

    def json_response(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body in AWS's JSON protocols."""
        document = {"__type": self.code, "message": self.message, "Message": self.message, **self.members}
        headers = {"content-type": "application/x-amz-json-1.1", "x-amzn-errortype": self.code}
        return self.status, headers, json.dumps(document).encode()


class ServiceShapes:
    """The operations of one service, as botocore's own model describes them.

    Args:
        service: botocore's name, such as `sagemaker`.
    """

    def __init__(self, service: str) -> None:
        self.service = service

    @cached_property
    def model(self) -> ServiceModel:
        """The service's model; read from botocore's data on first use."""
        return botocore.session.get_session().get_service_model(self.service)

    def operation(self, target: str) -> str:
        """Return the operation that an `X-Amz-Target` header names.

        Args:
            target: The header's value.

        Raises:
            AwsError: The service has no such operation.
        """
        prefix, _, name = target.rpartition(".")
        if prefix != self.model.metadata["targetPrefix"] or name not in self.model.operation_names:
            raise AwsError("UnknownOperationException", f"unknown operation {target!r}")
        return name

    def check(self, operation: str, params: Params) -> None:
        """Validate a request as botocore and the service's front end do.

        Args:
            operation: Name of the operation.
            params: The request's members.

        Raises:
            AwsError: A member is missing, unknown, of the wrong type or out of its constraints.
        """
        shape = self._operation(operation).input_shape
        if shape is None:
            return
        report = ParamValidator().validate(params, shape)
        if report.has_errors():
            raise AwsError("ValidationException", str(ParamValidationError(report=report.generate_report())))
        problems = list(_violations(shape, params, ""))
        if problems:
            noun = "error" if len(problems) == 1 else "errors"
            raise AwsError(
                "ValidationException", f"{len(problems)} validation {noun} detected: {'; '.join(problems)}"
            )

    def check_answer(self, operation: str, answer: Params) -> None:
        """Validate what a modelled service answers, so that it says nothing that the real one could not.

        Args:
            operation: Name of the operation.
            answer: The answer's members.

        Raises:
            AssertionError: A member is missing, unknown, of the wrong type or out of its constraints.
        """
        shape = self._operation(operation).output_shape
        if shape is None:
            assert not answer, f"{operation} answers nothing, not {sorted(answer)}"
            return
        report = ParamValidator().validate(answer, shape)
        problems = [report.generate_report()] if report.has_errors() else list(_violations(shape, answer, ""))
        assert not problems, f"{operation} would answer what its model forbids: {'; '.join(problems)}"

    def coerce(self, operation: str, params: Params) -> Params:
        """Give CloudFormation's property values the types of the operation's members ("1" may stand for 1).

        Args:
            operation: Name of the operation.
            params: Properties under the members' names.
        """
        shape = self._operation(operation).input_shape
        coerced: Params = _coerce(shape, params) if shape is not None else params
        return coerced

    def _operation(self, name: str) -> OperationModel:
        return self.model.operation_model(name)


class ModelledService:
    """A service whose operations are modelled here; they run one at a time.

    Who extends it sets `lock` and `_operations`, which runs an operation by its name.
    """

    title: ClassVar[str]
    shapes: ClassVar[ServiceShapes]
    lock: threading.RLock
    _operations: dict[str, Operation]

    def add_operations(self, operations: Mapping[str, Operation]) -> None:
        """Take operations that other modules model, such as jobs.

        Args:
            operations: By name; each takes a scope and validated members.
        """
        self._operations.update(operations)

    def call(self, scope: Scope, operation: str, params: Params) -> Params:
        """Run one operation.

        Args:
            scope: Whose resources.
            operation: Its name.
            params: Its validated members.

        Raises:
            AwsError: The service refuses, or does not model the operation.
        """
        if operation not in self._operations:
            raise AwsError(
                "UnknownOperationException", f"{self.title} {operation} is not modelled by the local cloud"
            )
        with self.lock:
            return self._operations[operation](scope, params)


def dispatch(
    shapes: ServiceShapes, target: str, body: bytes, call: Callable[[str, Params], Params]
) -> tuple[int, dict[str, str], bytes]:
    """Answer one request of the JSON 1.1 protocol.

    Args:
        shapes: The service's operations.
        target: The `X-Amz-Target` header.
        body: The request's body.
        call: Runs an operation with validated members.
    """
    try:
        operation = shapes.operation(target)
        try:
            params = json.loads(body or b"{}")
        except ValueError as error:
            raise AwsError("SerializationException", f"the body is not JSON: {error}") from error
        shapes.check(operation, params)
        answer = call(operation, params)
    except AwsError as error:
        return error.json_response()
    document = json.dumps(answer, default=_timestamp).encode()
    return 200, {"content-type": "application/x-amz-json-1.1"}, document


_CLASSES = {"L": r"\w", "N": r"\d", "Alnum": r"\w", "Z": r"\s", "Space": r"\s"}
_PRINTABLE = r"\x20-\U0010ffff"


@cache
def python_pattern(java: str) -> re.Pattern[str]:
    """Return a service model's pattern, which is Java's, as Python's.

    Args:
        java: Pattern of a shape. A surrogate range becomes the characters that it stands for; a Unicode class
            becomes letters and digits, white space, or every printable character.
    """
    pattern = java.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010ffff")
    pattern = re.sub(r"\$\{\d+,\d+\}", "$", pattern).replace(r"\z", r"\Z")
    parts = re.split(r"\\p\{(\w+)\}", pattern)
    translated = parts[0]
    for name, rest in zip(parts[1::2], parts[2::2], strict=True):
        inside = translated.count("[") > translated.count("]")
        known = _CLASSES.get(name, _PRINTABLE)
        translated += (known if inside else f"[{known}]") + rest
    return re.compile(translated)


def _timestamp(value: object) -> float:
    if isinstance(value, datetime):
        return round(value.timestamp(), 3)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Yield what the service's front end says about members out of their constraints."""
    if isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            if name in value:
                dotted = name[0].lower() + name[1:]
                yield from _violations(member, value[name], f"{path}.{dotted}" if path else dotted)
    elif isinstance(shape, ListShape):
        yield from _length(shape, len(value), value, path)
        for index, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{index}.member")
    elif shape.type_name == "map":
        yield from _length(shape, len(value), value, path)
    elif shape.type_name == "string":
        yield from _string(shape, value, path)
    elif shape.type_name in ("integer", "long", "float", "double"):
        yield from _number(shape, value, path)


def _failed(value: object, path: str, rule: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {rule}"


def _length(shape: Shape, length: int, value: object, path: str) -> Iterator[str]:
    limits = shape.metadata
    if length < limits.get("min", 0):
        yield _failed(value, path, f"have length greater than or equal to {limits['min']}")
    if length > limits.get("max", length):
        yield _failed(value, path, f"have length less than or equal to {limits['max']}")


def _string(shape: Shape, value: str, path: str) -> Iterator[str]:
    yield from _length(shape, len(value), value, path)
    allowed = shape.metadata.get("enum")
    if allowed and value not in allowed:
        yield _failed(value, path, f"satisfy enum value set: [{', '.join(allowed)}]")
    pattern = shape.metadata.get("pattern")
    if pattern and not python_pattern(pattern).fullmatch(value):
        yield _failed(value, path, f"satisfy regular expression pattern: {pattern}")


def _number(shape: Shape, value: float, path: str) -> Iterator[str]:
    limits = shape.metadata
    if value < limits.get("min", value):
        yield _failed(value, path, f"have value greater than or equal to {limits['min']}")
    if value > limits.get("max", value):
        yield _failed(value, path, f"have value less than or equal to {limits['max']}")


def _coerce(shape: Shape, value: Any) -> Any:
    kind = shape.type_name
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        members = shape.members
        return {k: _coerce(members[k], v) if k in members else v for k, v in value.items()}
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_coerce(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {k: _coerce(shape.value, v) for k, v in value.items()}
    if kind in ("integer", "long") and isinstance(value, str | float) and not isinstance(value, bool):
        return int(value) if float(value).is_integer() else value
    if kind in ("float", "double") and isinstance(value, str | int) and not isinstance(value, bool):
        return float(value)
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    if kind == "string" and isinstance(value, int | float):
        return json.dumps(value)
    return value
