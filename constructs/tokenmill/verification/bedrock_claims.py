"""Claims about profiles, routers, quotas, guardrails and prompts of Amazon Bedrock."""

from __future__ import annotations

from tokenmill.verification.line import Deployment, Line

BEDROCK_CLAIMS: tuple[Line, ...] = (
    Line(
        id="profile-metric-id",
        claim="Calls by an application inference profile are counted under the profile's id as ModelId.",
        why="The pages on metrics name models and do not show a profile's value.",
        relies="metric_* of InferenceProfile, alarms on a prompt's cache reads, and the local cloud.",
        probe="Makes a profile, calls it once and lists the metrics.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="profile-condition-key",
        claim="bedrock:InferenceProfileArn is the application profile's ARN where the foundation model is "
        "authorized, so that a role may call the model through the profile only.",
        why="The page shows the key with a system-defined profile.",
        relies="grant_invoke of InferenceProfile.",
        probe="Calls the profile with a role of these rights, and the model itself, which has to be denied.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="profile-same-name",
        claim="Bedrock takes a second application inference profile of the same name.",
        why="CreateInferenceProfile's page lists a conflict and does not call names unique.",
        relies="The local cloud takes it; InferenceProfile gives each profile a name of its own.",
        probe="Makes two.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="profile-geography",
        claim="A system-defined profile that the shipped table does not have reaches regions of its "
        "geography only that a profile in the table is known to reach.",
        why="Profiles of newer models stand on their models' cards, and the table was read from one page.",
        relies="grant_invoke for models newer than the table.",
        probe="Lists the region's profiles and compares their regions.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="router-two-models",
        claim="A prompt router takes both of its models in Models, the fallback among them, and is refused "
        "with one.",
        why="The page says two models; the API's list has no bounds.",
        relies="PromptRouter, and the local cloud.",
        probe="Makes a router of two models and reads it back; asks for one with one model.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="router-difference-scale",
        claim="responseQualityDifference counts in percent: 10 is taken and read back as 10.",
        why="The API allows 0 to 100; examples elsewhere give fractions such as 0.5.",
        relies="PromptRouter's quality_difference and its example.",
        probe="Reads it back from that router.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="router-rights",
        claim="A call through a router takes rights on the router and on its models, and is denied with the "
        "router's alone.",
        why="The page on the permissions lists actions and shows no policy of a caller.",
        relies="grant_invoke of PromptRouter.",
        probe="Calls it with a role of each kind.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="router-counted-model",
        claim="A call through a router is counted under the model that answered and not under the router.",
        why="The pages on metrics do not mention routers.",
        relies="metric_invocations of PromptRouter.",
        probe="Calls it once and reads the counts of the model in the trace and of the router.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="token-quota-names",
        claim="Service Quotas calls Bedrock's token quotas 'On-demand', 'Cross-region' and 'Global "
        "cross-region model inference tokens per minute for', and then the model.",
        why="The names have changed before, and the page of quotas shows those of some models.",
        relies="tokenmill doctor --quota-request and the cost report.",
        probe="Lists the account's quotas and AWS's defaults.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="token-burndown",
        claim="Answers of models without a documented burndown take as many quota tokens as the shipped "
        "table says.",
        why="AWS documents the factor of some models; the rest stands in public code.",
        relies="TokenQuota, tokenmill doctor --quota-request and the longest answers they allow.",
        probe="Asks each such model of the price table once and divides EstimatedTPMQuotaUsage; a model that "
        "somebody else calls meanwhile says nothing.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="batch-quotas",
        claim="Batch inference takes 100 to 50,000 records a job by default.",
        why="The General Reference has these quotas by model, and the table has the smallest of all.",
        relies="BatchInference cuts parts by them.",
        probe="Reads the quotas from Service Quotas; keeps those of sizes and of jobs at once.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="unit-quota-names",
        claim="Service Quotas lists 'Model units no-commitment Provisioned Throughputs across base models' "
        "and '... custom models'.",
        why="The names are on a page of quotas that changes with the service.",
        relies="ProvisionedThroughput reads the quota before it buys, and the cost report.",
        probe="Lists the account's quotas and AWS's defaults.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="unit-offers",
        claim="The models that units are sold of in the region are those of the shipped table.",
        why="The page was not read whole: the table has no regions for 14 of its 28 models.",
        relies="ProvisionedThroughput refuses a model or a region at synthesis.",
        probe="Lists the foundation models with inference type PROVISIONED.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="absent-units-error",
        claim="A call of a provisioned model that is not there is answered with ResourceNotFoundException, "
        "or that the model identifier is invalid.",
        why="The pages on errors name both and no provisioned model.",
        relies="The gateway falls back at it.",
        probe="Calls an ARN that never was; nothing is bought.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="parameter-path",
        claim="GetParametersByPath is authorized on the parameter ARN of the path, and not with a right on "
        "path/* alone.",
        why="Pages on it show wider policies.",
        relies="Roles that read the units' ledger have both.",
        probe="Reads an empty path with a role of each kind.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="guardrail-blocked-input",
        claim="Converse answers a question that its guardrail blocks with blockedInputMessaging and nothing "
        "else.",
        why="The pages show examples of answers and do not promise it.",
        relies="The gateway tells a blocked question, which is an error 400, from a blocked answer by it.",
        probe="Asks a question with a forbidden word.",
        deployment=Deployment.BEDROCK_GUARDRAILS,
    ),
    Line(
        id="guardrail-masked-stop",
        claim="An answer that was masked only ends with stopReason guardrail_intervened.",
        why="The page describes the reason as an intervention and shows blocked answers.",
        relies="The gateway's finish_reason, and the local cloud.",
        probe="Has a model repeat what a regular expression masks.",
        deployment=Deployment.BEDROCK_GUARDRAILS,
    ),
    Line(
        id="guardrail-stream-end",
        claim="In a stream whose answer is blocked, blockedOutputsMessaging comes as one more delta, in both "
        "modes.",
        why="The page on streaming describes when text is held and not what follows a block.",
        relies="The gateway's streams, and the local cloud.",
        probe="Has a model say a word that answers may not have, once in each mode.",
        deployment=Deployment.BEDROCK_GUARDRAILS,
    ),
    Line(
        id="guardrail-masking",
        claim="In ApplyGuardrail's answer an action BLOCKED in any assessment means that the text is "
        "blocked; a text that is masked only stands in outputs.",
        why="The page shows one answer of each kind.",
        relies="The gateway's guardrail around models that SageMaker serves.",
        probe="Has a forbidden word and a masked number assessed.",
        deployment=Deployment.BEDROCK_GUARDRAILS,
    ),
    Line(
        id="guardrail-piece",
        claim="ApplyGuardrail takes a text of 20,000 characters.",
        why="The quota counts text units, and accounts differ in it.",
        relies="The gateway cuts texts into such pieces.",
        probe="Sends one.",
        deployment=Deployment.BEDROCK_GUARDRAILS,
    ),
    Line(
        id="guardrail-versions",
        claim="A guardrail has 20 versions at most.",
        why="The quota stands on a page, and what an account has may differ.",
        relies="Guardrail's limit on kept_versions.",
        probe="Reads the quota from Service Quotas.",
        deployment=Deployment.BEDROCK_GUARDRAILS,
    ),
    Line(
        id="guardrail-metrics",
        claim="Guardrails publish metrics with the dimensions GuardrailArn and GuardrailVersion.",
        why="The page lists dimensions one by one and not which go together.",
        relies="metric_* of Guardrail.",
        probe="Lists the metrics after a text was assessed.",
        deployment=Deployment.BEDROCK_GUARDRAILS,
    ),
    Line(
        id="guardrail-grounding",
        claim="Contextual grounding assesses nothing in a call that marks no source.",
        why="The page says how sources are marked and not what happens without.",
        relies="A gateway takes a guardrail with such a check.",
        probe="Asks with such a guardrail and reads the trace.",
        deployment=Deployment.BEDROCK_GUARDRAILS,
    ),
    Line(
        id="guardrail-limits",
        claim="CreateGuardrail refuses a regular expression with look-around and a threshold of 1.",
        why="Both stand on pages of the user guide; the API's shape allows them.",
        relies="PatternFilter and Grounding refuse them at synthesis.",
        probe="Asks for both.",
        deployment=Deployment.BEDROCK_GUARDRAILS,
    ),
    Line(
        id="guardrail-key",
        claim="Who calls a guardrail with a key of its own needs kms:Decrypt on the key, and nothing more of "
        "it.",
        why="The page names the permission for users of a guardrail and does not tell callers apart.",
        relies="grant_apply of Guardrail.",
        probe="Has a text assessed with a role that has it and with one that has not.",
        deployment=Deployment.BEDROCK_GUARDRAILS,
    ),
    Line(
        id="prompt-options",
        claim="Converse takes serviceTier and performanceConfig beside a prompt's ARN as modelId.",
        why="The page names what may not stand beside a prompt, and is older than both.",
        relies="BedrockOptions with a prompt.",
        probe="Asks with the default tier and with the standard latency.",
        deployment=Deployment.BEDROCK_PROMPTS,
    ),
    Line(
        id="prompt-rights",
        claim="A role that may get and render a prompt's ARN and prompt:* may call a version, and is denied "
        "without.",
        why="The page on the permissions shows the prompt's ARN and no version's.",
        relies="grant_invoke of ManagedPrompt.",
        probe="Calls a version with a role of each kind.",
        deployment=Deployment.BEDROCK_PROMPTS,
    ),
    Line(
        id="prompt-version-kept",
        claim="A version of a prompt answers as it was after the prompt has changed and has another version.",
        why="The page calls a version a snapshot and shows no call of an older one.",
        relies="ManagedPrompt retains versions for callers that still have the old ARN.",
        probe="Makes a version, changes the prompt, makes another and asks with both.",
        deployment=Deployment.BEDROCK_PROMPTS,
    ),
    Line(
        id="bedrock-refs",
        claim="Ref of an application profile, a router, a guardrail, a prompt and its version is the ARN, "
        "and of a guardrail's version its id, a bar and the number.",
        why="CloudFormation's pages leave some of them out.",
        relies="The local cloud, and templates that use Ref.",
        probe="Makes one of each by a stack and compares its outputs.",
        deployment=Deployment.BEDROCK_PROMPTS,
    ),
)
