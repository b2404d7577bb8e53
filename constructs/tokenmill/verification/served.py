"""What probes do with an inference component that serves, or does not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tokenmill.core.errors import TokenmillError
from tokenmill.verification import endpoints, looking
from tokenmill.verification.aws import is_absent
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from tokenmill.verification.aws import Aws

_ERRORS = "?ERROR ?Error ?error ?Exception"
_DELETE_SECONDS = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of the server, and what its log says of it.

    Args:
        environment: The variables that set it.
        shown: Phrases of the log, one of which says that it is in force.
        otherwise: Phrase that is there with another value where the option was passed over; may be empty.
        word: Regular expression of an error that is about it.
    """

    environment: dict[str, str]
    shown: tuple[str, ...]
    otherwise: str
    word: str


def image_driver(aws: Aws, endpoint: str, component: str, status: endpoints.Status) -> Outcome:
    """Return whether an image starts on its host image and answers.

    Args:
        aws: The run.
        endpoint: The endpoint's name.
        component: The component's name.
        status: How the component ended up.
    """
    observations: dict[str, Any] = {"status": status.value, "failure_reason": status.reason}
    observations["log"] = looking.log_lines(aws, looking.component_log(component))
    if not status.in_service:
        no_capacity = "capacity" in status.reason.lower()
        return Outcome(Verdict.UNCLEAR if no_capacity else Verdict.FAILS, observations)
    observations["answer"] = endpoints.ask(aws, endpoint, component)
    return Outcome(holds(bool(observations["answer"].get("choices"))), observations)


def accepts(aws: Aws, endpoint: str, component: str, status: endpoints.Status, option: Option) -> Outcome:
    """Return whether a server took an option: it answers, and its log says that the option is in force.

    Args:
        aws: The run.
        endpoint: The endpoint's name.
        component: The component's name.
        status: How the component ended up.
        option: The option.
    """
    group = looking.component_log(component)
    seen: dict[str, Any] = {"environment": option.environment, "status": status.value}
    if not status.in_service:
        errors = looking.log_lines(aws, group, pattern=_ERRORS)
        about = [line for line in errors if re.search(option.word, line, re.IGNORECASE)]
        seen |= {"failure_reason": status.reason, "errors": errors, "about_the_option": about}
        # A server that does not start for another reason says nothing of the option.
        return Outcome(Verdict.FAILS if about else Verdict.UNCLEAR, seen)
    try:
        seen["answer"] = endpoints.ask(aws, endpoint, component, model=None)
    except TokenmillError as error:
        return Outcome(Verdict.UNCLEAR, {**seen, "error": str(error)})
    except ClientError as error:
        refused = error.response["Error"]["Code"] == "ModelError"
        return Outcome(Verdict.FAILS if refused else Verdict.UNCLEAR, {**seen, "error": str(error)})
    shown = looking.or_nothing(
        lambda: aws.wait(
            "the option in the log", lambda: _shown(aws, group, option), seconds=looking.LOG_SECONDS
        )
    )
    passed_over = looking.matching_lines(aws, group, option.otherwise) if option.otherwise else []
    seen |= {"log": shown or passed_over}
    if shown:
        return Outcome(holds(bool(seen["answer"].get("choices"))), seen)
    return Outcome(Verdict.FAILS if passed_over else Verdict.UNCLEAR, seen)


def delete(aws: Aws, component: str) -> None:
    """Delete a component and wait until it is gone.

    Args:
        aws: The run.
        component: The component's name.
    """
    aws.client("sagemaker").delete_inference_component(InferenceComponentName=component)
    aws.wait(f"deleting {component}", lambda: is_gone(aws, component), seconds=_DELETE_SECONDS)


def _shown(aws: Aws, group: str, option: Option) -> list[str]:
    return [line for phrase in option.shown for line in looking.matching_lines(aws, group, phrase)]


def is_gone(aws: Aws, component: str) -> bool:
    """Return whether a component is not there.

    Args:
        aws: The run.
        component: The component's name.
    """
    try:
        aws.client("sagemaker").describe_inference_component(InferenceComponentName=component)
    except ClientError as error:
        return is_absent(error)
    return False
