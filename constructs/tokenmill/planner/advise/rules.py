"""The Bedrock-or-SageMaker framework: what follows from a need, each rule with the page that it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.planner.advise.need import HOURS_PER_MONTH
from tokenmill.planner.advise.options import (
    BASE,
    BATCH,
    BEDROCK,
    EVERYTHING,
    FLEX,
    IMPORT,
    ON_DEMAND,
    PRIORITY,
    PROVISIONED,
    RESERVED,
    SAGEMAKER,
    Situation,
)
from tokenmill.planner.advise.quota import quota_need

if TYPE_CHECKING:
    from collections.abc import Callable

IMPORT_PAGE = (
    "Use Custom model import to import a customized open-source model into Amazon Bedrock "
    "(Amazon Bedrock User Guide)"
)
CUSTOM_PAGE = "Deploy a custom model for on-demand inference (Amazon Bedrock User Guide)"
LIFECYCLE_PAGE = "Model lifecycle (Amazon Bedrock User Guide)"
PROFILE_PAGE = (
    "Route model inference requests across AWS Regions with cross-Region inference "
    "(Amazon Bedrock User Guide)"
)
TIER_PAGE = "Service tiers for optimizing performance and cost (Amazon Bedrock User Guide)"
BATCH_PAGE = "Supported Regions and models for batch inference (Amazon Bedrock User Guide)"
LIMITS_PAGE = "Capacity, Limits, and Cost Optimization (Amazon Bedrock User Guide)"
QUOTA_PAGE = "How tokens are counted in Amazon Bedrock (Amazon Bedrock User Guide)"
PROTECTION_PAGE = (
    "Data protection; Use interface VPC endpoints (AWS PrivateLink) to create a private connection between "
    "your VPC and Amazon Bedrock (Amazon Bedrock User Guide)"
)
INFERENCE_GUIDE = (
    "Generative AI inference architecture and best practices on AWS "
    "(AWS Prescriptive Guidance, not found in full)"
)
PARADIGM_PAGE = (
    "GENCOST02-BP01 Balance cost and performance when selecting inference paradigms (Generative AI Lens)"
)
CACHE_PAGE = "Prompt caching for faster model inference (Amazon Bedrock User Guide)"
ZERO_PAGE = "Scale an endpoint to zero instances (Amazon SageMaker AI Developer Guide)"

BATCH_HOURS = 24
CUSTOM_REGIONS = ("us-east-1", "us-west-2")
CUSTOM_MODELS = ("amazon.nova-lite-", "amazon.nova-micro-", "amazon.nova-pro-")
IMPORT_REGIONS = ("us-east-1", "us-east-2", "us-west-2", "eu-central-1")
GPT_OSS = "GptOssForCausalLM"
GPT_OSS_REGION = "us-east-1"
# the page names families, and of Qwen3 the two classes; Llama 4 and later Qwen3 variants are not among them
IMPORT_ARCHITECTURES = frozenset(
    {
        "LlamaForCausalLM",
        "MllamaForConditionalGeneration",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "GPTBigCodeForCausalLM",
        GPT_OSS,
        "T5ForConditionalGeneration",
    }
)
IMPORT_BYTES = 200e9
# "less than 128K", of a page that lists Llama 3.1, whose context is 131,072
IMPORT_CONTEXT = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One sentence of the framework.

    Args:
        id: Short name.
        sentence: What follows, and why.
        source: Title of the page that it rests on; empty for what follows from the input alone.
        fires: Whether it applies.
        excludes: Kinds of option that cannot be taken then.
        favours: Kinds of option that it speaks for.
    """

    id: str
    sentence: str
    source: str
    fires: Callable[[Situation], bool]
    excludes: frozenset[str] = frozenset()
    favours: frozenset[str] = frozenset()


def _deploys_tuned(situation: Situation) -> bool:
    name = situation.bedrock_model.startswith(CUSTOM_MODELS)
    return name and situation.region in CUSTOM_REGIONS


def _importable(situation: Situation) -> bool:
    return situation.model is not None and situation.model.architecture in IMPORT_ARCHITECTURES


def _imports_here(situation: Situation) -> bool:
    oss = situation.model is not None and situation.model.architecture == GPT_OSS
    return situation.region in ((GPT_OSS_REGION,) if oss else IMPORT_REGIONS)


def _too_large_to_import(situation: Situation) -> bool:
    model = situation.model
    return model is not None and (
        model.weight_bytes >= IMPORT_BYTES or model.max_context_tokens > IMPORT_CONTEXT
    )


def _prompt_fits(situation: Situation) -> bool:
    price = None if situation.quote is None else situation.quote.price
    longest = None if price is None else price.max_input_tokens
    return longest is None or situation.workload.input_tokens <= longest


def _ended(situation: Situation) -> bool:
    price = None if situation.quote is None else situation.quote.price
    return price is not None and price.ended(situation.today)


def _over_quota(situation: Situation) -> bool:
    usage = situation.usage
    if usage.quota_tpm is None or not situation.bedrock_model:
        return False
    return quota_need(situation.bedrock_model, situation.workload, usage).settled_tpm > usage.quota_tpm


def _far_deadline(situation: Situation) -> bool:
    hours = situation.traffic.deadline_hours
    return situation.traffic.shape == "batch" and hours is not None and hours >= BATCH_HOURS


def _regional_leak(situation: Situation) -> bool:
    return bool(situation.profile) and situation.need.cross_region == "none"


def _global_leak(situation: Situation) -> bool:
    return situation.profile == "global" and situation.need.cross_region == "geography"


def _bursty(situation: Situation) -> bool:
    return situation.traffic.idle_hours > 0 or situation.traffic.peak > 1


HARD = (
    Rule(
        id="no-bedrock-model",
        sentence="no Bedrock model was named; give --bedrock MODEL_ID",
        source="",
        fires=lambda s: not s.bedrock_model,
        excludes=BASE | {PROVISIONED},
    ),
    Rule(
        id="no-open-model",
        sentence="no open-weights model was named; give --model CONFIG_JSON",
        source="",
        fires=lambda s: s.model is None,
        excludes=frozenset({SAGEMAKER, IMPORT}),
    ),
    Rule(
        id="region-not-allowed",
        sentence="prompts may not be processed in the region asked for",
        source="",
        fires=lambda s: bool(s.need.regions) and s.region not in s.need.regions,
        excludes=EVERYTHING,
    ),
    Rule(
        id="own-architecture",
        sentence="Bedrock runs no architecture of your own; an import must be one of a few known ones",
        source=IMPORT_PAGE,
        fires=lambda s: s.need.customization == "own-architecture",
        excludes=BEDROCK,
    ),
    Rule(
        id="own-weights",
        sentence="weights trained elsewhere run on Bedrock as an imported model only",
        source=IMPORT_PAGE,
        fires=lambda s: s.need.customization == "own-weights",
        excludes=BASE | {PROVISIONED},
    ),
    Rule(
        id="tuned-on-demand",
        sentence="a tuned model runs on demand for Amazon Nova Lite, Micro and Pro in us-east-1 and "
        "us-west-2 only; others need provisioned throughput",
        source=CUSTOM_PAGE,
        fires=lambda s: s.need.tuned and not _deploys_tuned(s),
        excludes=frozenset({ON_DEMAND}),
    ),
    Rule(
        id="tuned-tiers",
        sentence="flex, priority, reserved and batch are documented for published models, not for tuned ones",
        source=f"{TIER_PAGE}; {BATCH_PAGE}",
        fires=lambda s: s.need.tuned,
        excludes=frozenset({FLEX, PRIORITY, RESERVED, BATCH}),
    ),
    Rule(
        id="import-architecture",
        sentence="the model's architecture is not among those that Bedrock imports",
        source=IMPORT_PAGE,
        fires=lambda s: s.model is not None and not _importable(s),
        excludes=frozenset({IMPORT}),
    ),
    Rule(
        id="import-region",
        sentence=f"Bedrock imports models in {', '.join(IMPORT_REGIONS)}, gpt-oss in {GPT_OSS_REGION} only",
        source=IMPORT_PAGE,
        fires=lambda s: not _imports_here(s),
        excludes=frozenset({IMPORT}),
    ),
    Rule(
        id="import-size",
        sentence="Bedrock imports text models of less than 200 GB, with a context of 128K at most",
        source=IMPORT_PAGE,
        fires=_too_large_to_import,
        excludes=frozenset({IMPORT}),
    ),
    Rule(
        id="engine-control",
        sentence="the serving engine, its settings and its kernels are Bedrock's own",
        source=INFERENCE_GUIDE,
        fires=lambda s: bool({"engine", "kernel"} & set(s.need.control)),
        excludes=BEDROCK,
    ),
    Rule(
        id="network-isolation",
        sentence="Bedrock runs models in accounts of AWS; a VPC endpoint reaches them, but they are not in "
        "your network",
        source=PROTECTION_PAGE,
        fires=lambda s: "network-isolation" in s.need.control,
        excludes=BEDROCK,
    ),
    Rule(
        id="withdrawn-weights",
        sentence="a published model is withdrawn after its legacy period; only weights of your own stay as "
        "long as you want",
        source=LIFECYCLE_PAGE,
        fires=lambda s: bool({"pinned-weights", "lifecycle"} & set(s.need.control)),
        excludes=BASE | {PROVISIONED},
    ),
    Rule(
        id="end-of-life",
        sentence="the Bedrock model has reached its end of life",
        source=LIFECYCLE_PAGE,
        fires=_ended,
        excludes=BASE | {PROVISIONED},
    ),
    Rule(
        id="cross-region-none",
        sentence="an inference profile may process a request in another region, which is not allowed",
        source=PROFILE_PAGE,
        fires=_regional_leak,
        excludes=BASE,
    ),
    Rule(
        id="cross-region-geography",
        sentence="a global inference profile may process a request in any commercial region, which is not "
        "allowed",
        source=PROFILE_PAGE,
        fires=_global_leak,
        excludes=BASE,
    ),
    Rule(
        id="profile-regions",
        sentence="an inference profile may process a request in other regions of its geography than those "
        "allowed; name the model without its prefix, or leave regions out and say cross_region=geography",
        source=PROFILE_PAGE,
        fires=lambda s: bool(s.profile and s.need.regions),
        excludes=BASE,
    ),
    Rule(
        id="profile-units",
        sentence="inference profiles do not take provisioned throughput; name the model without its prefix",
        source=PROFILE_PAGE,
        fires=lambda s: bool(s.profile),
        excludes=frozenset({PROVISIONED}),
    ),
    Rule(
        id="interactive",
        sentence="somebody waits for the answers; flex and batch answer when there is room",
        source=TIER_PAGE,
        fires=lambda s: s.traffic.shape != "batch",
        excludes=frozenset({FLEX, BATCH}),
    ),
    Rule(
        id="near-deadline",
        sentence=f"a batch job may take {BATCH_HOURS} hours, more than the deadline leaves",
        source=LIMITS_PAGE,
        fires=lambda s: s.traffic.shape == "batch" and not _far_deadline(s),
        excludes=frozenset({BATCH}),
    ),
    Rule(
        id="prompt-too-long",
        sentence="the mean prompt is longer than the Bedrock model takes",
        source="",
        fires=lambda s: not _prompt_fits(s),
        excludes=BASE | {PROVISIONED},
    ),
    Rule(
        id="quota",
        sentence="the peak hour takes more tokens a minute than the account's quota; ask for a larger one",
        source=QUOTA_PAGE,
        fires=_over_quota,
        excludes=frozenset({ON_DEMAND, FLEX, PRIORITY}),
    ),
    Rule(
        id="no-operations",
        sentence="nobody looks after instances, and an endpoint needs somebody who does",
        source=PARADIGM_PAGE,
        fires=lambda s: s.need.operations == "none",
        excludes=frozenset({SAGEMAKER}),
    ),
)

SOFT = (
    Rule(
        id="idle-hours",
        sentence="traffic rests or swings: tokens cost nothing while nobody asks, instances and units do",
        source=PARADIGM_PAGE,
        fires=_bursty,
        favours=BASE,
    ),
    Rule(
        id="steady-traffic",
        sentence="traffic is even all month, so capacity that is paid by the hour is used by the hour",
        source=PARADIGM_PAGE,
        fires=lambda s: not _bursty(s) and s.traffic.active_hours == HOURS_PER_MONTH,
        favours=frozenset({SAGEMAKER, PROVISIONED}),
    ),
    Rule(
        id="repeated-prompts",
        sentence="prompts repeat: the prompt cache reads them for less, and cache reads take no quota",
        source=CACHE_PAGE,
        fires=lambda s: s.usage.cached_share > 0,
        favours=frozenset({ON_DEMAND}),
    ),
    Rule(
        id="latency-goal",
        sentence="no source states how fast Bedrock answers, so the goals are planned for on SageMaker and "
        "must be measured on Bedrock",
        source=TIER_PAGE,
        fires=lambda s: s.traffic.shape != "batch",
        favours=frozenset({SAGEMAKER}),
    ),
    Rule(
        id="little-operations",
        sentence="instances, images and scaling are looked after by AWS on Bedrock, by the team on SageMaker",
        source=PARADIGM_PAGE,
        fires=lambda s: s.need.operations == "part-time",
        favours=BEDROCK,
    ),
    Rule(
        id="scale-to-zero",
        sentence="an endpoint of inference components can rest at zero instances and takes minutes to come "
        "back",
        source=ZERO_PAGE,
        fires=lambda s: s.traffic.scale_to_zero and s.traffic.idle_hours > 0,
        favours=frozenset({SAGEMAKER}),
    ),
)

RULES = (*HARD, *SOFT)
