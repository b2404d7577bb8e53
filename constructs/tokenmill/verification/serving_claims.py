"""Claims about queues, jobs, adapters and compiled models."""

from __future__ import annotations

from tokenmill.verification.line import Deployment, Line

SERVING_CLAIMS: tuple[Line, ...] = (
    Line(
        id="async-processed-metric",
        claim="An asynchronous endpoint publishes InvocationsProcessed, so spelt.",
        why="The page spells it InvocationsProcesssed; another project's reading of live endpoints does not.",
        relies="metric_processed of AsyncEndpoint, and the local cloud.",
        probe="Lists the endpoint's metrics after requests were answered.",
        deployment=Deployment.ASYNC_ENDPOINT,
    ),
    Line(
        id="async-failure-object",
        claim="A failed request's object stands at the FailureLocation of its answer and ends in -error.out.",
        why="The page shows the name in an example only.",
        relies="AsyncFanOut looks there for failures, and the local cloud writes them there.",
        probe="Sends a request that makes the container fail.",
        deployment=Deployment.ASYNC_ENDPOINT,
    ),
    Line(
        id="async-failure-message",
        claim="The notification about a failure has invocationStatus Failed, a failureReason and no "
        "responseParameters.",
        why="The page shows one message of each kind and no schema.",
        relies="Subscribers of AsyncEndpoint's error topic, and the local cloud's messages.",
        probe="Receives the notification about that request.",
        deployment=Deployment.ASYNC_ENDPOINT,
    ),
    Line(
        id="async-topic-key",
        claim="SageMaker notifies a topic that is encrypted with SNS's own key when the role may publish.",
        why="The page on prerequisites names customer keys only.",
        relies="The topics that AsyncEndpoint makes without a customer key.",
        probe="Receives the notification about a request that was answered.",
        deployment=Deployment.ASYNC_ENDPOINT,
    ),
    Line(
        id="async-expired-object",
        claim="A request that waits longer than its time to live gets a failure object.",
        why="The page counts expired requests in a metric and does not say what is written.",
        relies="AsyncFanOut waits for one object or the other; without one it waits for both limits.",
        probe="Sends a request that lives a minute behind three that take longer.",
        deployment=Deployment.ASYNC_ENDPOINT,
    ),
    Line(
        id="async-repeated-id",
        claim="A request with an InferenceId that was used before is a request of its own.",
        why="The API reference calls the id the caller's and does not say whether it has to be new.",
        relies="AsyncFanOut makes ids of lines and sends a line again that had no answer.",
        probe="Sends another request under the id of one that was answered.",
        deployment=Deployment.ASYNC_ENDPOINT,
    ),
    Line(
        id="map-policies",
        claim="A state machine may run a distributed map over an S3 object when its role may start it, watch "
        "its children and read the object.",
        why="The page on the policies shows wider ones than the library gives.",
        relies="AsyncFanOut's role.",
        probe="Runs such a map of two items with the role's rights.",
        deployment=Deployment.CONFIG_REQUESTS,
    ),
    Line(
        id="hub-revision-card",
        claim="The Hugging Face Hub describes a revision with the model card of that revision.",
        why="The Hub's API pages do not say which revision's card the description holds.",
        relies="ModelMirror compares the licence that was acknowledged with the pinned revision's.",
        probe="Compares the licences of a model's first and last revision with their README.md.",
        deployment=Deployment.CONFIG_REQUESTS,
    ),
    Line(
        id="neuron-revision",
        claim="SM_ON_REVISION reaches vLLM in the Neuron image.",
        why="The image makes a flag of it for its own program; what that hands on is not described.",
        relies="ModelSource.hugging_face(revision=...) on inf2 and trn1.",
        probe="Serves Qwen/Qwen3-0.6B with revision main and looks for it in the engine's log.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="training-artifact-prefix",
        claim="The S3ModelArtifacts of a training job without compression is the prefix of the model's "
        "files.",
        why="The page shows an archive; whether the prefix ends in a slash is not said.",
        relies="CompiledModel reads the manifest below it and serves from it.",
        probe="Runs a training job that leaves one file, by a state machine; keeps the prefix.",
        deployment=Deployment.HOSTED_JOBS,
    ),
    Line(
        id="transform-out-path",
        claim="A transform job's object keeps its path below the input's prefix and gets .out behind its "
        "name.",
        why="The API reference shows an object at the top of the prefix only.",
        relies="BatchTransform's output, and the local cloud's.",
        probe="Transforms an object in a folder below the prefix.",
        deployment=Deployment.HOSTED_JOBS,
    ),
    Line(
        id="job-keys-role",
        claim="For a transform job's volume and output key the role's own permissions are enough.",
        why="The page on the role's permissions names actions of the role and no key policy.",
        relies="BatchTransform with customer keys whose policies name the account only.",
        probe="Runs that job with such a key for both.",
        deployment=Deployment.HOSTED_JOBS,
    ),
    Line(
        id="sync-failure-cause",
        claim="A .sync job that fails ends its state with States.TaskFailed and the job as JSON in the "
        "cause.",
        why="The page on the integration shows no failure.",
        relies="tokenmill jobs prints the FailureReason in it.",
        probe="Runs a transform job that fails, by a state machine.",
        deployment=Deployment.HOSTED_JOBS,
    ),
    Line(
        id="transform-neuron-driver",
        claim="Hosts of batch transform have a Neuron driver on which the Neuron image serves.",
        why="A transform job has no InferenceAmiVersion, and no page names its hosts' drivers.",
        relies="BatchTransform on inf2 and trn1, which is experimental.",
        probe="Asks Qwen/Qwen3-0.6B one question by a transform job.",
        deployment=Deployment.NEURON_TRANSFORM,
    ),
    Line(
        id="transform-gpu-driver",
        claim="Hosts of batch transform have a GPU driver on which the image with CUDA 13.0 serves.",
        why="A transform job has no InferenceAmiVersion, and no page names its hosts' drivers.",
        relies="BatchTransform on GPUs, which is experimental.",
        probe="Asks Qwen/Qwen3-0.6B one question by a transform job.",
        deployment=Deployment.GPU_TRANSFORM,
    ),
    Line(
        id="adapter-stack",
        claim="CloudFormation makes an adapter's component without RuntimeConfig, VariantName and compute, "
        "and it answers.",
        why="The resource's page marks them as not required and shows no adapter.",
        relies="LlmAdapter renders neither.",
        probe="Makes one by a stack on a component of the Large Model Inference image and asks it.",
        deployment=Deployment.ADAPTER_ENDPOINT,
    ),
    Line(
        id="adapter-reload",
        claim="Another ArtifactUrl in a stack makes the base load the adapter again.",
        why="UpdateInferenceComponent takes it; when containers load it is not said.",
        relies="A new version of an adapter is deployed so.",
        probe="Goes from an adapter that changes nothing to one of chance, and compares the answers.",
        deployment=Deployment.ADAPTER_ENDPOINT,
    ),
    Line(
        id="adapter-metrics",
        claim="Requests to an adapter count in metrics under the adapter's component name.",
        why="The metrics page speaks of components and does not name adapters.",
        relies="metric_* of LlmAdapter.",
        probe="Looks for Invocations under its name.",
        deployment=Deployment.ADAPTER_ENDPOINT,
    ),
    Line(
        id="adapter-base-locked",
        claim="SageMaker refuses another specification for a component with adapters, and its deletion.",
        why="No page says what becomes of adapters whose base changes.",
        relies="The local cloud refuses both, which shows a wrong order there.",
        probe="Asks for both; deletion comes second.",
        deployment=Deployment.ADAPTER_ENDPOINT,
    ),
    Line(
        id="vllm-adapters",
        claim="The vLLM image 0.30.0 serves a component with its SM_VLLM_ variables and loads its adapters.",
        why="The page on adapters names the Large Model Inference image only.",
        relies="The catalog lets adapters be added where vllm-sagemaker serves.",
        probe="Makes an adapter by a stack on a component of that image and asks it.",
        deployment=Deployment.ADAPTER_ENDPOINT,
    ),
    Line(
        id="lora-slot-memory",
        claim="On the Large Model Inference image, room for adapters takes the GPU memory that "
        "EngineOptions.lora is taken for: every projection and the output, at the largest rank, for each.",
        why="It is read from vLLM's source of one version; no page says what room for adapters takes.",
        relies="LlmEndpoint refuses room that does not fit beside the weights.",
        probe="Serves Qwen/Qwen3-0.6B with room for 2 adapters of rank 16 and for 8 of 64, and compares what "
        "the log says that loading took.",
        deployment=Deployment.ADAPTER_ENDPOINT,
    ),
    Line(
        id="trn2-thin-image",
        claim="The image that ServingImage builds serves on ml.trn2.48xlarge, on the only Neuron host image.",
        why="That host image documents Neuron driver 2.19; the base image is of SDK 2.32.",
        relies="ServingImage, which is experimental.",
        probe="Builds it with the construct's files and commands and serves Qwen/Qwen3-0.6B.",
        deployment=Deployment.TRAINIUM_ENDPOINT,
    ),
    Line(
        id="trn2-eagle3",
        claim="The image that ServingImage builds speculates with EAGLE3 for a Qwen3 model, as "
        "SM_VLLM_SPECULATIVE_CONFIG says.",
        why="The Neuron documentation describes the method and has tutorials of Llama 3.1 and GPT-OSS only.",
        relies="EngineOptions.speculative takes eagle3 on that image.",
        probe="Serves Qwen/Qwen3-1.7B with a public draft, asks it one question and looks in the log for "
        "what vLLM counts of drafts.",
        deployment=Deployment.TRAINIUM_ENDPOINT,
    ),
    Line(
        id="trn2-artifact-reuse",
        claim="What a training job of that image left is enough for a copy to start without compiling.",
        why="The page on the compilation cache speaks of one machine's folder.",
        relies="CompiledModel, which is experimental.",
        probe="Runs the job on ml.trn2.48xlarge and serves its output, where the image makes each missing "
        "graph an error.",
        deployment=Deployment.TRAINIUM_ENDPOINT,
    ),
)
