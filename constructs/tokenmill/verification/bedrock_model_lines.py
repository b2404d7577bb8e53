"""Inference profiles, prompt routers, quotas, and units that are gone: requests to Amazon Bedrock alone."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tokenmill.core.batch_quotas import batch_quota
from tokenmill.core.bedrock_profiles import (
    GEOGRAPHIES,
    GLOBAL,
    geography_regions,
    profile_table,
)
from tokenmill.core.model_units import unit_offers
from tokenmill.core.token_quota import burndown
from tokenmill.verification import bedrock_asks, looking
from tokenmill.verification.bedrock_asks import Model, model_here, tried
from tokenmill.verification.bedrock_lines import priced_models
from tokenmill.verification.bedrock_setting_lines import parameter_path
from tokenmill.verification.probe import Outcome, Verdict, holds
from tokenmill_runtime.gateway.aws_errors import is_gone
from tokenmill_runtime.units_plan import quota_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tokenmill.verification.aws import Aws

# How core/quota_request.py names quotas.
SCOPES = ("On-demand", "Cross-region", "Global cross-region")
QUOTA_NAME = "{} model inference tokens per minute for"
RECORDS_QUOTA = "records per batch inference job"
DIFFERENCE = 10.0
# An ARN of the right form that no purchase gave.
NO_UNITS = "provisioned-model/0000tokenmil"
_ESTIMATED = "EstimatedTPMQuotaUsage"
UNIT_QUOTAS = tuple(quota_name(custom=custom) for custom in (False, True))
_PROFILES = {"profile-metric-id", "profile-condition-key", "profile-same-name"}
_ROUTERS = {"router-two-models", "router-difference-scale", "router-rights", "router-counted-model"}


def model_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Call a model by profiles and routers, and read quotas and counts.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    if "profile-geography" in wanted:
        yield "profile-geography", tried(lambda: _geographies(aws))
    if "token-quota-names" in wanted:
        yield "token-quota-names", tried(lambda: _quota_names(aws))
    if "unit-quota-names" in wanted:
        yield "unit-quota-names", tried(lambda: _unit_quotas(aws))
    if "unit-offers" in wanted:
        yield "unit-offers", tried(lambda: _offers(aws))
    if "batch-quotas" in wanted:
        yield "batch-quotas", tried(lambda: _batch_quotas(aws))
    if "parameter-path" in wanted:
        yield "parameter-path", tried(lambda: parameter_path(aws))
    if "token-burndown" in wanted:
        yield "token-burndown", tried(lambda: _burndowns(aws))
    if "absent-units-error" in wanted:
        arn = f"arn:{aws.partition}:bedrock:{aws.region}:{aws.account}:{NO_UNITS}"
        yield "absent-units-error", tried(lambda: units_gone(aws, arn))
    if _PROFILES & set(wanted):
        yield from _profile_lines(aws, wanted)
    if _ROUTERS & set(wanted):
        yield from _router_lines(aws, wanted)


def units_gone(aws: Aws, arn: str) -> Outcome:
    """Return whether the gateway understands what a call of absent units is answered with.

    Args:
        aws: The run.
        arn: ARN of a provisioned model that is not there.
    """
    try:
        bedrock_asks.ask(aws.client("bedrock-runtime"), arn)
    except ClientError as error:
        understood = is_gone(error)
        seen = {"error": dict(error.response["Error"]), "gateway_falls_back": understood}
        passing = error.response["Error"]["Code"] in ("ThrottlingException", *bedrock_asks.DENIED)
        return Outcome(Verdict.UNCLEAR if passing else holds(understood), seen)
    return Outcome(Verdict.FAILS, {"error": None})


def _geographies(aws: Aws) -> Outcome:
    pages = (
        aws.client("bedrock").get_paginator("list_inference_profiles").paginate(typeEquals="SYSTEM_DEFINED")
    )
    profiles = [profile for page in pages for profile in page["inferenceProfileSummaries"]]
    unlisted: dict[str, list[str]] = {}
    outside: dict[str, list[str]] = {}
    for profile in profiles:
        name = profile["inferenceProfileId"]
        geography = name.split(".")[0]
        if geography == GLOBAL or aws.region in profile_table().get(name, {}):
            continue
        # A global destination has no region in its ARN.
        regions = [model["modelArn"].split(":")[3] for model in profile["models"]]
        known = {*geography_regions(geography), aws.region} if geography in GEOGRAPHIES else set()
        unlisted[name] = regions
        if not set(regions) <= known:
            outside[name] = sorted(set(regions) - known)
    seen = {"profiles": len(profiles), "unlisted": unlisted, "outside": outside}
    return Outcome(holds(not outside) if unlisted else Verdict.UNCLEAR, seen)


def _quota_names(aws: Aws) -> Outcome:
    found = bedrock_quotas(aws)
    names = {scope: [name for name in found if name.startswith(QUOTA_NAME.format(scope))] for scope in SCOPES}
    examples = {scope: {name: found[name] for name in listed[:3]} for scope, listed in names.items()}
    return Outcome(holds(all(names.values())) if found else Verdict.UNCLEAR, {"found": examples})


def bedrock_quotas(aws: Aws) -> dict[str, float]:
    """Return Bedrock's quotas by name: the account's, and AWS's default where it has none.

    Args:
        aws: The run.
    """
    found: dict[str, float] = {}
    for operation in ("list_aws_default_service_quotas", "list_service_quotas"):
        pages = aws.client("service-quotas").get_paginator(operation).paginate(ServiceCode="bedrock")
        found |= {quota["QuotaName"]: quota["Value"] for page in pages for quota in page["Quotas"]}
    return found


def _unit_quotas(aws: Aws) -> Outcome:
    found = bedrock_quotas(aws)
    alike = {name: value for name, value in found.items() if "model units" in name.lower()}
    return Outcome(holds(set(UNIT_QUOTAS) <= set(alike)) if found else Verdict.UNCLEAR, {"found": alike})


def _batch_quotas(aws: Aws) -> Outcome:
    """Compare what the account may do with what parts are cut by."""
    quota, found = batch_quota(bedrock_asks.SMALL), bedrock_quotas(aws)
    alike = {name: value for name, value in found.items() if "batch inference" in name.lower()}
    of_records = {name: value for name, value in alike.items() if RECORDS_QUOTA in name.lower()}
    wrong = {
        name: value
        for name, value in of_records.items()
        if value != (quota.minimum_records if "minimum" in name.lower() else quota.records_per_job)
    }
    seen = {"found": alike, "of_records": sorted(of_records), "other_than_expected": wrong}
    return Outcome(holds(not wrong) if of_records else Verdict.UNCLEAR, seen)


def _offers(aws: Aws) -> Outcome:
    shown = aws.client("bedrock").list_foundation_models(byInferenceType="PROVISIONED")["modelSummaries"]
    sold = sorted(model["modelId"] for model in shown)
    table = {name: offer.regions for name, offer in unit_offers().items()}
    here = {name for name, regions in table.items() if aws.region in regions}
    seen = {
        "sold": sold,
        "in_the_table_alone": sorted(here - set(sold)),
        "sold_and_not_in_the_table": sorted(set(sold) - set(table)),
        "sold_where_the_table_has_no_region": sorted(
            name for name in sold if name in table and name not in here
        ),
    }
    kept = ("in_the_table_alone", "sold_and_not_in_the_table", "sold_where_the_table_has_no_region")
    return Outcome(holds(not any(seen[name] for name in kept)) if sold else Verdict.UNCLEAR, seen)


def _burndowns(aws: Aws) -> Outcome:
    asked: dict[str, dict[str, Any]] = {}
    not_tried: dict[str, str] = {}
    moment = datetime.datetime.now(datetime.UTC)
    for price in priced_models(aws.region):
        if burndown(price.model_id).documented:
            continue
        try:
            asked[price.model_id] = bedrock_asks.ask(aws.client("bedrock-runtime"), price.model_id)["usage"]
        except ClientError as error:
            not_tried[price.model_id] = str(error)
    measured: dict[str, dict[str, Any]] = {}
    for model, usage in asked.items():
        counts = _estimate(aws, model, moment)
        if counts is not None and counts["calls"] == 1:
            measured[model] = {**usage, **counts, "factor": _factor(usage, counts["tokens"])}
        else:
            not_tried[model] = f"counted: {counts}"
    wrong = {
        model: seen for model, seen in measured.items() if round(seen["factor"]) != burndown(model).factor
    }
    seen = {"measured": measured, "expected_otherwise": wrong, "not_tried": not_tried}
    return Outcome(holds(not wrong) if measured else Verdict.UNCLEAR, seen)


def _estimate(aws: Aws, model: str, moment: datetime.datetime) -> dict[str, float] | None:
    def look() -> float:
        return bedrock_asks.sum_since(aws, _ESTIMATED, model, moment)

    tokens = looking.or_nothing(
        lambda: aws.wait(f"the count of {model}", look, seconds=looking.METRIC_SECONDS)
    )
    # Somebody else's calls of the model would be counted with the probe's.
    calls = bedrock_asks.sum_since(aws, "Invocations", model, moment)
    return None if tokens is None else {"tokens": tokens, "calls": calls}


def _factor(usage: dict[str, int], tokens: float) -> float:
    prompt = usage["inputTokens"] + usage.get("cacheWriteInputTokens", 0)
    return (tokens - prompt) / max(usage["outputTokens"], 1)


def _profile_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    model = model_here(aws)
    name = aws.name("profile")
    aws.declare("inference-profile", name)

    def create() -> str:
        made = aws.client("bedrock").create_inference_profile(
            inferenceProfileName=name, modelSource={"copyFrom": model.arn}, tags=bedrock_asks.tags(aws)
        )
        return str(made["inferenceProfileArn"])

    profile = create()
    if "profile-same-name" in wanted:
        again = looking.acceptance(create, about="name|exist")
        yield "profile-same-name", again
    if "profile-condition-key" in wanted:
        yield "profile-condition-key", tried(lambda: _condition(aws, profile, model))
    if "profile-metric-id" in wanted:
        client, own = aws.client("bedrock-runtime"), profile.rpartition("/")[2]
        yield (
            "profile-metric-id",
            tried(lambda: metric_of(aws, profile, lambda: bedrock_asks.ask(client, profile), wanted=own)),
        )


def metric_of(aws: Aws, arn: str, call: Callable[[], object], *, wanted: str) -> Outcome:
    """Call what an ARN names, and return whether the call is counted under a name.

    Args:
        aws: The run.
        arn: What is called; new, so that nobody else has called it.
        call: The call.
        wanted: The name: the ARN itself, or the id in it.
    """
    call()
    found = bedrock_asks.counted_ids(aws, {arn, arn.rpartition("/")[2]})
    return Outcome(holds(wanted in found) if found else Verdict.UNCLEAR, {"called": arn, "counted_as": found})


def _condition(aws: Aws, profile: str, model: Model) -> Outcome:
    through = {"StringEquals": {"bedrock:InferenceProfileArn": profile}}
    client = bedrock_asks.caller(
        aws,
        "profile-caller",
        bedrock_asks.invoke(profile),
        bedrock_asks.invoke(*model.behind, Condition=through),
    )
    return bedrock_asks.rights(
        aws,
        lambda: bedrock_asks.ask(client, profile),
        without=lambda: bedrock_asks.ask(client, model.id),
    )


def _router_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    models = (model_here(aws, bedrock_asks.SMALL), model_here(aws, bedrock_asks.LARGER))
    refused = bedrock_asks.told(lambda: _create_router(aws, "two", models))
    if refused["code"]:
        about = refused["code"] == "ValidationException"
        for line in sorted(_ROUTERS & set(wanted)):
            of_it = about and line in ("router-two-models", "router-difference-scale")
            yield line, Outcome(Verdict.FAILS if of_it else Verdict.UNCLEAR, refused)
        return
    client = aws.client("bedrock")
    arn = next(
        router["promptRouterArn"]
        for page in client.get_paginator("list_prompt_routers").paginate(type="custom")
        for router in page["promptRouterSummaries"]
        if router["promptRouterName"] == aws.name("two")
    )
    router = client.get_prompt_router(promptRouterArn=arn)
    if "router-two-models" in wanted:
        yield "router-two-models", tried(lambda: _two_models(aws, router, models))
    if "router-difference-scale" in wanted:
        difference = router["routingCriteria"]["responseQualityDifference"]
        yield "router-difference-scale", Outcome(holds(difference == DIFFERENCE), {"read_back": difference})
    if "router-rights" in wanted:
        yield "router-rights", tried(lambda: _router_rights(aws, arn, models))
    if "router-counted-model" in wanted:
        yield "router-counted-model", tried(lambda: _router_count(aws, arn))


def _create_router(aws: Aws, suffix: str, models: Collection[Model]) -> None:
    targets = [{"modelArn": model.arn} for model in models]
    name = aws.name(suffix)
    aws.declare("prompt-router", name)
    aws.client("bedrock").create_prompt_router(
        promptRouterName=name,
        models=targets,
        fallbackModel=targets[0],
        routingCriteria={"responseQualityDifference": DIFFERENCE},
        tags=bedrock_asks.tags(aws),
    )


def _two_models(aws: Aws, router: dict[str, Any], models: tuple[Model, Model]) -> Outcome:
    kept = [model["modelArn"] for model in router["models"]]
    alone = bedrock_asks.told(lambda: _create_router(aws, "one", models[:1]))
    seen = {"asked": [model.arn for model in models], "read_back": kept, "one_model": alone}
    if alone["code"] not in ("", "ValidationException"):
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(set(kept) == {model.arn for model in models} and bool(alone["code"])), seen)


def _router_rights(aws: Aws, router: str, models: tuple[Model, Model]) -> Outcome:
    enough = bedrock_asks.caller(
        aws, "router-caller", bedrock_asks.invoke(router), *(model.grant for model in models)
    )
    lacking = bedrock_asks.caller(aws, "router-alone", bedrock_asks.invoke(router))
    return bedrock_asks.rights(
        aws, lambda: bedrock_asks.ask(enough, router), without=lambda: bedrock_asks.ask(lacking, router)
    )


def _router_count(aws: Aws, router: str) -> Outcome:
    moment = datetime.datetime.now(datetime.UTC)
    answer = bedrock_asks.ask(aws.client("bedrock-runtime"), router)
    invoked = answer.get("trace", {}).get("promptRouter", {}).get("invokedModelId", "")
    if not invoked:
        return Outcome(Verdict.UNCLEAR, {"trace": answer.get("trace")})
    name = invoked.rpartition("/")[2]

    def look() -> float:
        return bedrock_asks.sum_since(aws, "Invocations", name, moment)

    calls = looking.or_nothing(lambda: aws.wait("the count of a call", look, seconds=looking.METRIC_SECONDS))
    under_router = {
        as_: bedrock_asks.sum_since(aws, "Invocations", as_, moment)
        for as_ in (router, router.rpartition("/")[2])
    }
    seen = {"invoked": invoked, "calls_of_model": calls, "calls_of_router": under_router}
    if any(under_router.values()):
        return Outcome(Verdict.FAILS, seen)
    return Outcome(Verdict.HOLDS if calls else Verdict.UNCLEAR, seen)
