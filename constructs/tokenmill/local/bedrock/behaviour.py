"""How the modelled control plane behaves where AWS's pages leave more than one way open.

The defaults are what the pages say or suggest; the others are what a careful client must live with too. The
tests draw from them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Refusal = Literal["ValidationException", "ConflictException"]


@dataclass(slots=True, kw_only=True)
class UnitQuotas:
    """Model units that an account may have at one time.

    Source: Amazon Bedrock User Guide, "Purchase a Provisioned Throughput": with commitment or without, units
    must be requested first, so every quota of a new account is 0.

    Args:
        base: For base models, without commitment.
        custom: For custom models, without commitment.
        committed: With commitment, of both kinds.
        per_model: For one provisioned throughput.
    """

    base: int = 0
    custom: int = 0
    committed: int = 0
    per_model: int = 1000


@dataclass(slots=True, kw_only=True)
class Behaviour:
    """Times, and answers that no page fixes.

    Args:
        creating_seconds: How long a purchase or a deployment is Creating.
        updating_seconds: How long a change is Updating.
        job_seconds: How long a job that makes a model runs.
        job_step_seconds: How long a batch job is Submitted, Validating, Scheduled and Stopping, each.
        get_lag_seconds: How late a Get or the tags of one resource show a change; no page says that they show
            it at once.
        list_lag_seconds: How late a List shows it.
        token_seconds: How long a client token is remembered. CreateProvisionedModelThroughput: "If this token
            matches a previous request, Amazon Bedrock ignores the request, but does not return an error"; it
            does not say for how long.
        token_after_delete: What a remembered token does when its resource is deleted: "ignored" answers with
            the deleted ARN, "anew" makes another.
        token_mismatch: Whether a token with other members is "ignored" (as the page says) or "refused".
        taken_name: What a name that exists is refused with; the operation lists no ConflictException.
        held_name_seconds: How long a deleted resource's name stays taken.
        early_delete: What deleting before the end of a commitment is refused with.
    """

    creating_seconds: float = 60.0
    updating_seconds: float = 30.0
    job_seconds: float = 120.0
    job_step_seconds: float = 5.0
    get_lag_seconds: float = 0.0
    list_lag_seconds: float = 0.0
    token_seconds: float = 8 * 3600.0
    token_after_delete: Literal["ignored", "anew"] = "ignored"
    token_mismatch: Literal["ignored", "refused"] = "ignored"
    taken_name: Refusal = "ValidationException"
    held_name_seconds: float = 0.0
    early_delete: Refusal = "ValidationException"
