"""Every claim about AWS that the library relies on and that no page of AWS settles.

Settled by documentation, and no line: API Gateway's streaming integration calls InvokeWithResponseStream
("Set up a Lambda proxy integration with payload response streaming in API Gateway", Amazon API Gateway
Developer Guide), which needs lambda:InvokeFunction only ("InvokeWithResponseStream", AWS Lambda API
Reference). An endpoint configuration with a KMS key is refused for instance types with local storage
("CreateEndpointConfig", KmsKeyId, Amazon SageMaker API Reference). What has DeletionPolicy Retain stays where
the operation that created it rolls back, unless it says RetainExceptOnCreate ("UpdateStack",
RetainExceptOnCreate, AWS CloudFormation API Reference; "DeletionPolicy attribute", its template reference).
Service Quotas calls the quotas of training jobs 'ml.<type> for training job usage' (doctor/quotas.py).
"""

from __future__ import annotations

from tokenmill.verification.line import Deployment, Line

CLAIMS: tuple[Line, ...] = (
    Line(
        id="neuron-image-driver",
        claim="The Hugging Face vLLM-Neuron image (SDK 2.26.1) serves on the only Neuron host image that "
        "SageMaker offers, al2-ami-sagemaker-inference-neuron-2, which documents Neuron driver 2.19.",
        why="No source names the oldest driver that SDK 2.26.1 runs on, and no Neuron device is at hand.",
        relies="The image catalog marks the pairing experimental; plans for inf2 and trn1 choose it.",
        probe="Serves Qwen/Qwen3-0.6B with this pairing, asks it one question, keeps the status and the log.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="neuron-device-unit",
        claim="One NumberOfAcceleratorDevicesRequired is one Neuron chip, not one NeuronCore.",
        why="The API reference speaks of accelerators and names no unit for Neuron.",
        relies="LlmEndpoint asks for whole chips and packs copies on an instance by chips.",
        probe="Asks for two devices on ml.inf2.xlarge, which has one chip with two cores.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="neuron-host-metrics",
        claim="CloudWatch gets no NeuronCore metric from SageMaker in /aws/sagemaker/Endpoints or "
        "/aws/sagemaker/InferenceComponents.",
        why="The monitoring pages list CPU, memory, disk and GPU metrics and do not mention Neuron.",
        relies="TokenScaling follows token work instead of utilization on every accelerator.",
        probe="Lists the metrics of the endpoint and its component after both have served.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="neuron-vllm-metrics",
        claim="Detailed observability collects the vLLM metrics of the Neuron image.",
        why="The page names vLLM and SGLang and does not say whether the Neuron containers are recognised.",
        relies="The PromQL bridge for endpoints that are called without the gateway.",
        probe="Asks CloudWatch's PromQL interface for metric names that begin with vllm.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="emf-from-endpoint-logs",
        claim="A line of embedded metric format that a SageMaker container prints becomes a CloudWatch "
        "metric.",
        why="The embedded metric format page names Lambda, ECS and the agent, not SageMaker's log groups.",
        relies="Publishing token metrics from inside a container, without the gateway.",
        probe="Serves a container that prints such lines, then looks for the log event and for the metric.",
        deployment=Deployment.LOG_ENDPOINT,
    ),
    Line(
        id="rest-api-streaming",
        claim="A REST API with responseTransferMode STREAM passes on, chunk by chunk, what our Python "
        "runtime bootstrap streams.",
        why="The page shows Node.js; a Python function with a runtime of its own is not described.",
        relies="ChatGateway's front door.",
        probe="Deploys the shipped bootstrap behind such an API and times the arrival of eight chunks.",
        deployment=Deployment.FRONT_DOOR,
    ),
    Line(
        id="arm64-exec-wrapper",
        claim="On arm64, Lambda starts our bootstrap through AWS_LAMBDA_EXEC_WRAPPER: the wrapper script "
        "keeps its executable bit in the package.",
        why="The local cloud runs functions on this machine's processor and file system.",
        relies="Every function that streams.",
        probe="Reads the processor's name from the answer of the function behind the front door.",
        deployment=Deployment.FRONT_DOOR,
    ),
    Line(
        id="host-memory-share",
        claim="A component that reserves 90 % of its host's memory is placed.",
        why="SageMaker keeps memory of a host for itself, and no page says how much of it.",
        relies="The planner lets copies take 90 % of the host, and LlmEndpoint reserves what the plan says.",
        probe="Asks for that share of ml.inf2.xlarge; when it is refused, the other lines go on with less.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="chat-without-model",
        claim="The Neuron container serves a chat body that names no model on /invocations.",
        why="vLLM takes a missing model for the one it serves; how SageMaker's container routes one is "
        "not described.",
        relies="The gateway's body to a component names no model.",
        probe="Sends such a body to the component of neuron-image-driver.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="empty-environment-value",
        claim="An empty environment value reaches the container: SM_ON_ALLOW_NON_CACHED_MODEL becomes a "
        "flag.",
        why="The API allows values of length 0 and does not say that they arrive.",
        relies="Serving configurations that are not in Hugging Face's cache of compiled models.",
        probe="Reads the value back and looks for --allow_non_cached_model in the container's log.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="wrapped-runtime-emf",
        claim="Metric lines that a function prints become metrics when AWS_LAMBDA_EXEC_WRAPPER has "
        "replaced its managed runtime.",
        why="The page promises it for standard output and describes no function without its managed runtime.",
        relies="Every token metric that the gateway publishes, and with them the scaling.",
        probe="Prints such a line in the function behind the front door and looks for the metric.",
        deployment=Deployment.FRONT_DOOR,
    ),
    Line(
        id="caller-gone",
        claim="When a caller hangs up, the Runtime API refuses the rest of the response.",
        why="No page says what a function that streams learns of its caller.",
        relies="The gateway notices by it that the caller has gone, and lets the model go.",
        probe="Leaves after the first of 60 lines and looks in the log for the refusal, or for an answer "
        "to the end.",
        deployment=Deployment.FRONT_DOOR,
    ),
    Line(
        id="stream-error-cuts",
        claim="A response that ends with an error in its trailers reaches the caller cut off, not as a "
        "whole one.",
        why="The page on custom runtimes names the trailers and not what API Gateway makes of them.",
        relies="A client of the gateway can tell a crash in the middle of an answer from its end.",
        probe="Lets the application fail after half of its lines and reads the response to its end.",
        deployment=Deployment.FRONT_DOOR,
    ),
    Line(
        id="dead-letters-key",
        claim="EventBridge delivers to a dead-letter queue under a customer key that lets "
        "events.amazonaws.com use it without a condition.",
        why="The page on encrypted topics and queues says what a key's policy needs and does not name "
        "dead letters.",
        relies="The compliance profile's queue for the heartbeat's lost events.",
        probe="Sends an event to a function that EventBridge may not invoke, and receives it from the queue.",
        deployment=Deployment.FRONT_DOOR,
    ),
    Line(
        id="endpoint-config-role",
        claim="SageMaker refuses an endpoint configuration without a role when its variant names no model.",
        why="The API reference has the role as optional and names no case in which it is not.",
        relies="The local cloud refuses it, so that a template that passes there passes on AWS.",
        probe="Asks for such a configuration; it needs no instance.",
        deployment=Deployment.COMPONENT_ENDPOINT,
    ),
    Line(
        id="copy-count-zero",
        claim="SageMaker refuses to create a component with a copy count of 0.",
        why="The API's model allows 0, which scaling in may reach; creation is not described.",
        relies="The local cloud refuses it, and plans start with one copy or more.",
        probe="Asks for such a component.",
        deployment=Deployment.COMPONENT_ENDPOINT,
    ),
    Line(
        id="component-arn-name",
        claim="What follows the slash in a component's ARN is the component's name, capitals kept.",
        why="ARNs of models are in lower case, and the name is no attribute in CloudFormation.",
        relies="LlmEndpoint takes the component's name from its Ref, for calls and as the metrics' target.",
        probe="Makes a component with a capital in its name by a stack and describes it by what Ref gave.",
        deployment=Deployment.COMPONENT_ENDPOINT,
    ),
    Line(
        id="metrics-role",
        claim="Utilization metrics arrive when the role may put metrics in /aws/sagemaker/* only.",
        why="The page on the role's permissions grants it for every namespace and does not say who "
        "publishes.",
        relies="The role that LlmEndpoint makes.",
        probe="Serves with such a role and lists the metrics of the endpoint and of the component.",
        deployment=Deployment.COMPONENT_ENDPOINT,
    ),
    Line(
        id="copies-survive-update",
        claim="A stack update that changes a component's specification keeps the copies that scaling has "
        "set, although the template's copy count is another.",
        why="UpdateInferenceComponent takes a copy count; whether CloudFormation sends an unchanged one "
        "is not described.",
        relies="Deploying a change under load: otherwise copies fall back to the plan's first count "
        "until scaling acts.",
        probe="Scales a stack's component from one copy to two, changes its environment by the stack, "
        "counts again.",
        deployment=Deployment.COMPONENT_ENDPOINT,
    ),
    Line(
        id="component-capture",
        claim="An endpoint of components writes down requests and answers under its DataCaptureConfig.",
        why="The pages on data capture show variants with a model and do not name components.",
        relies="EndpointHosting.data_capture with LlmEndpoint.",
        probe="Gives the endpoint such a configuration, asks its component once and looks into the bucket.",
        deployment=Deployment.COMPONENT_ENDPOINT,
    ),
    Line(
        id="component-variables",
        claim="The container of a component gets 100 environment variables.",
        why="The API's model allows 100, older pages say 16, and neither that they arrive.",
        relies="LlmEndpoint renders up to 100 and refuses more.",
        probe="Makes a component with 100, whose container counts them in its log.",
        deployment=Deployment.COMPONENT_ENDPOINT,
    ),
    Line(
        id="copies-by-stack",
        claim="A stack update that changes nothing of a component but its copy count sets that count, on the "
        "same component.",
        why="The resource's page says that the count changes without interruption, and not by which call.",
        relies="The deployment guard's hold gives the live count to the template; the local cloud does so.",
        probe="Adds one to the copy count in that stack's template and counts.",
        deployment=Deployment.COMPONENT_ENDPOINT,
    ),
    Line(
        id="failed-update-status",
        claim="A component update whose container does not start ends as InService with a FailureReason.",
        why="The statuses are listed, and which one ends a failed update is not.",
        relies="The local cloud ends it so.",
        probe="Updates a component to a program that is not there.",
        deployment=Deployment.COMPONENT_ENDPOINT,
    ),
    Line(
        id="endpoint-delete-refused",
        claim="SageMaker refuses to delete an endpoint that hosts components, and says so.",
        why="DeleteEndpoint's page names no error for it.",
        relies="The local cloud refuses it, which shows a wrong order of deletion there.",
        probe="Asks for the deletion while a component is served; it comes last.",
        deployment=Deployment.COMPONENT_ENDPOINT,
    ),
    Line(
        id="gpu-image-driver",
        claim="The Large Model Inference image 0.38.0 (CUDA 13.0) serves on al2023-ami-sagemaker-"
        "inference-gpu-4-1 with our OPTION_ variables.",
        why="The pages name the image and the host image apart, and a vLLM default may undo an option.",
        relies="Plans for GPU instance types.",
        probe="Serves Qwen/Qwen3-0.6B with this pairing and asks it one question.",
        deployment=Deployment.GPU_ENDPOINT,
    ),
    Line(
        id="planned-start",
        claim="The planned configuration of Qwen3-8B starts within an hour on the host memory that the "
        "plan reserves, compiling where Hugging Face has nothing compiled.",
        why="The cache's contents change, and compiling needs a Neuron host's time and memory.",
        relies="LlmEndpoint's health check waits an hour, and the plan packs copies by that memory.",
        probe="Serves one copy of chat.plan.json's choice; keeps the time, the peak memory and the "
        "compiler's log.",
        deployment=Deployment.PLANNED_ENDPOINT,
    ),
    Line(
        id="planned-timing",
        claim="At the planned load, one copy's time to first token and inter-token latency lie in the "
        "plan's 80 % intervals.",
        why="The timing coefficients come from published measurements of other models and instances.",
        relies="The plan: copies, cost and goals rest on them.",
        probe="Streams 32 answers at one copy's share of the planned rate, with its burstiness, and takes "
        "the plan's percentile; keeps what an answer takes alone beside the engine's step and prefill.",
        deployment=Deployment.PLANNED_ENDPOINT,
    ),
    Line(
        id="price-list-hosting",
        claim="Products of AmazonSageMaker in the AWS Price List carry component Hosting, an instanceName, "
        "the regionCode and one hourly on-demand price in US dollars for each instance type.",
        why="The API's pages show other services' products; no page lists SageMaker's attributes.",
        relies="tokenmill catalog refresh.",
        probe="Reads the region's list with that command's code and looks for every type that the shipped "
        "catalog has a price of.",
        deployment=Deployment.CATALOG_REQUESTS,
    ),
    Line(
        id="endpoint-quota-names",
        claim="Service Quotas lists, for each instance type, the account's quota under the name "
        "'ml.<type> for endpoint usage'.",
        why="The page of quotas shows the names; ListServiceQuotas leaves out quotas without an applied "
        "value.",
        relies="tokenmill catalog refresh --quotas, and the advice that takes quotas into account.",
        probe="Lists the account's quotas with that command's code, and the default ones where a type is "
        "missing.",
        deployment=Deployment.CATALOG_REQUESTS,
    ),
    Line(
        id="bedrock-service-tiers",
        claim="Bedrock answers in the service tiers flex and priority with every model that the account may "
        "call and the price table has such a price of.",
        why="The table's source lists prices; which models take a tier in which region changes.",
        relies="tokenmill advise compares the two tiers with endpoints.",
        probe="Asks each model for at most 16 tokens in each of its tiers; one that is refused is asked "
        "without a tier, to tell the tier from the model.",
        deployment=Deployment.BEDROCK_REQUESTS,
    ),
    Line(
        id="bedrock-cache-reads",
        claim="A prompt that is sent again within five minutes is counted as cache reads "
        "(usage.cacheReadInputTokens), with each provider's cheapest model that has a cache-read price.",
        why="The page names models and shortest prompts; the table has prices of more models.",
        relies="tokenmill advise charges the shared part of prompts as cache reads.",
        probe="Sends a prompt of 5,000 words to each, and again up to three times.",
        deployment=Deployment.BEDROCK_REQUESTS,
    ),
    Line(
        id="lmi-fp8",
        claim="With OPTION_QUANTIZE=fp8 the Large Model Inference image 0.38.0 converts plain weights while "
        "it loads them.",
        why="The pages describe the option for the engine; no page shows it in this image.",
        relies="Plans with limits.quantizations = [..., 'fp8'].",
        probe="Serves Qwen/Qwen3-0.6B with it and looks for quantization=fp8 in the engine's log.",
        deployment=Deployment.GPU_ENDPOINT,
    ),
    Line(
        id="gpu-planned-timing",
        claim="On a GPU too, one copy's time to first token and inter-token latency at the planned load lie "
        "in the plan's 80 % intervals.",
        why="The GPU's coefficients come from published measurements of other servers than this image.",
        relies="Plans for GPU instance types: copies, cost and goals rest on them.",
        probe="Plans Qwen3-8B on ml.g6.2xlarge, serves what the plan chooses and sends it the planned load, "
        "as planned-timing does.",
        deployment=Deployment.GPU_ENDPOINT,
    ),
    Line(
        id="vllm-pipeline",
        claim="SM_VLLM_PIPELINE_PARALLEL_SIZE=2 splits a model into two stages in the vLLM image 0.30.0.",
        why="The image makes a flag of vLLM's server of every such variable; no page shows this one. The "
        "Large Model Inference image refuses more than one stage (deepjavalibrary/djl-serving@d21927c: "
        "vllm_rb_properties.py), so plans with stages are served by this one.",
        relies="Plans with pipeline stages.",
        probe="Serves Qwen/Qwen3-0.6B on two GPUs with it and looks for pipeline_parallel_size=2 in the "
        "engine's log.",
        deployment=Deployment.GPU_SPLIT_ENDPOINT,
    ),
    Line(
        id="lmi-experts",
        claim="With OPTION_ENABLE_EXPERT_PARALLEL=true the same image spreads whole experts over the GPUs, "
        "and so serves FP8 experts that cannot be cut by their number.",
        why="Options of the engine are passed through by name; no page shows this one in the image.",
        relies="Plans for mixtures of experts whose experts do not divide.",
        probe="Serves Qwen/Qwen3-30B-A3B-FP8 on four GPUs with it and looks for expert parallelism in the "
        "engine's log.",
        deployment=Deployment.GPU_SPLIT_ENDPOINT,
    ),
    Line(
        id="copies-packed",
        claim="Copies of a component that asks for several chips stand on one instance, as many as the "
        "plan's copies_per_instance.",
        why="SageMaker packs copies by what they ask for; what it keeps back of a host is not described.",
        relies="Plans count instances by it, and LlmEndpoint sets the most instances.",
        probe="Serves a copy that asks for the chips and the memory of a plan for Qwen3-30B-A3B-FP8, raises "
        "the count to the plan's on the one instance, and counts again.",
        deployment=Deployment.GPU_SPLIT_ENDPOINT,
    ),
)
