"""What is served fits image, host, chip and model, or is refused in one sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import aws_cdk as cdk
import pytest

from support_planner import model
from tokenmill.core.engine_options import EngineOptions, LoraSlots, SpeculativeDraft, ToolCalling
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.core.instances import UnlistedInstance
from tokenmill.endpoints import Serving

QWEN = model("Qwen__Qwen3-8B")
VLLM, LMI = image("vllm-sagemaker"), image("lmi-vllm")


def serving(**changes: Any) -> Serving:
    fields: dict[str, Any] = {
        "model": "Qwen/Qwen3-8B",
        "instance_type": "ml.inf2.24xlarge",
        "tensor_parallel": 4,
        "max_sequences": 8,
        "context_tokens": 8192,
        "spec": QWEN,
    }
    return Serving(**{**fields, **changes})


def on_gpu(**changes: Any) -> Serving:
    return serving(**{"instance_type": "ml.g6e.xlarge", "tensor_parallel": 1, **changes})


def refusal(make: Any = serving, **changes: Any) -> str:
    with pytest.raises(TokenmillError) as caught:
        make(**changes)
    return str(caught.value)


def test_a_model_that_the_catalog_knows_is_checked_by_its_name_alone() -> None:
    """Nobody has to hand in a spec to hear that 70 billion parameters do not fit one chip."""
    large = {"model": "meta-llama/Llama-3.3-70B-Instruct", "instance_type": "ml.inf2.8xlarge"}
    told = refusal(**large, tensor_parallel=2, spec=None)
    assert told.startswith("meta-llama/Llama-3.3-70B-Instruct does not fit: one core of 2 needs ")
    assert serving(**{**large, "model": "acme/unknown"}, tensor_parallel=2, spec=None).spec is None


def test_heads_that_do_not_divide_are_refused_with_the_degrees_that_do() -> None:
    """Thirty-two heads over twelve cores."""
    assert refusal(tensor_parallel=12) == (
        "Qwen/Qwen3-8B cannot be cut: tensor parallel 12 does not divide 32 attention heads; give "
        "tensor_parallel 2 or 4 or 8"
    )


def test_key_value_heads_that_do_not_spread_are_refused() -> None:
    """Three of them over two cores."""
    odd = replace(QWEN, kv_heads=3)
    assert refusal(spec=odd, tensor_parallel=2).endswith(
        "3 key-value heads cannot be spread evenly over 2 cores; give another instance type"
    )


def test_a_vocabulary_that_does_not_divide_is_refused_on_gpus() -> None:
    """vLLM pads it to 64 and then cuts it; optimum-neuron pads it to the cores."""
    odd = replace(QWEN, vocab_size=1000, attention_heads=36, kv_heads=12)
    three = {"spec": odd, "tensor_parallel": 3}
    assert refusal(on_gpu, **three, instance_type="ml.g6e.12xlarge").startswith(
        "Qwen/Qwen3-8B cannot be cut: tensor parallel 3 does not divide the vocabulary of 1024 (with "
        "padding); give tensor_parallel 1 or 2 or 4"
    )
    assert serving(spec=odd, tensor_parallel=6).chips == 3


def test_layers_whose_width_does_not_divide_are_refused_on_gpus() -> None:
    """Feed-forward layers are cut along their width."""
    wide = tuple(
        replace(item, outputs=12_290) if item.name == "up_proj" else item for item in QWEN.projections
    )
    odd = replace(QWEN, projections=wide)
    assert "tensor parallel 4 does not divide layers that are 12290 wide; give tensor_parallel 1 or 2" in (
        refusal(on_gpu, spec=odd, instance_type="ml.g6e.12xlarge", tensor_parallel=4)
    )


def test_experts_that_neither_cut_nor_spread_are_refused() -> None:
    """128 experts 768 wide in blocks of 128 go over eight GPUs whole, on 192 not."""
    fp8 = model("Qwen__Qwen3-30B-A3B-FP8")
    spread = on_gpu(model=fp8.id, spec=fp8, instance_type="ml.g6e.48xlarge", tensor_parallel=8, image=VLLM)
    assert spread.container_environment()["SM_VLLM_ENABLE_EXPERT_PARALLEL"] == "true"
    odd = replace(fp8, experts=126)
    assert "8 cores can neither cut experts 768 wide evenly in blocks of 128 nor share 126 whole ones" in (
        refusal(on_gpu, spec=odd, instance_type="ml.g6e.48xlarge", tensor_parallel=8)
    )


def test_more_stages_than_layers_are_refused() -> None:
    """A stage holds a layer at least."""
    short = replace(QWEN, layers=2)
    staged = {"instance_type": "ml.g6e.12xlarge", "pipeline_parallel": 4, "image": VLLM, "spec": short}
    assert refusal(on_gpu, **staged) == (
        "pipeline_parallel is 4, but Qwen/Qwen3-8B has 2 layers; give 2 or less"
    )


def test_cores_that_cannot_work_together_are_refused() -> None:
    """Trainium's rings are of 2, 8, 16 and 32 cores."""
    assert refusal(instance_type="ml.trn1.32xlarge", spec=None, tensor_parallel=6) == (
        "tensor_parallel is 6, but 6 cores of Trainium1 cannot work together; allowed: 2, 8, 16, 32"
    )


def test_a_context_longer_than_the_model_is_refused() -> None:
    """vLLM does not start with it."""
    assert "context_tokens is 65536, but Qwen/Qwen3-8B was made for 40960; lower it" in refusal(
        context_tokens=65_536
    )


def test_a_model_that_does_not_fit_is_refused_with_what_would() -> None:
    """A compiled batch is held in full: four cores hold it, two do not."""
    text = refusal(tensor_parallel=2)
    assert text.startswith("Qwen/Qwen3-8B does not fit: one core of 2 needs ")
    assert "for 8 sequences of 8,192 tokens" in text
    assert text.endswith("; give tensor_parallel 4, or fewer max_sequences, or a shorter context_tokens")
    assert serving(tensor_parallel=4).chips == 2


def test_a_server_that_pages_needs_room_for_one_longest_sequence() -> None:
    """More of them wait for each other; a model larger than the card never starts."""
    assert on_gpu(max_sequences=256, context_tokens=40_960).chips == 1
    text = refusal(on_gpu, spec=model("Qwen__Qwen3-32B"))
    assert "for one sequence of 8,192 tokens" in text
    assert text.endswith("; give an instance type with more memory, or a shorter context_tokens")


def test_a_larger_degree_is_offered_within_the_instance_alone() -> None:
    """Two stages of two GPUs leave none."""
    large = {"spec": model("Qwen__Qwen3-235B-A22B"), "instance_type": "ml.g6e.12xlarge", "image": VLLM}
    assert "give an instance type with more memory" in refusal(
        on_gpu, **large, tensor_parallel=2, pipeline_parallel=2
    )


def test_room_for_adapters_counts_against_the_memory() -> None:
    """A model that fits alone does not fit beside 256 slots of rank 64."""
    roomy = EngineOptions(lora=LoraSlots(max_adapters=4, max_rank=64))
    assert on_gpu(options=roomy).container_environment()["OPTION_MAX_LORAS"] == "4"
    text = refusal(on_gpu, options=EngineOptions(lora=LoraSlots(max_adapters=256, max_rank=64)))
    assert "lora slots) and has " in text
    assert "or fewer or smaller lora slots" in text


def test_weights_in_a_wider_type_take_their_room() -> None:
    """Eight billion parameters in four bytes do not fit a card of 24 GB beside anything."""
    small = {"instance_type": "ml.g6.xlarge", "context_tokens": 1024}
    assert on_gpu(**small, host_memory_mib=12_000).chips == 1
    assert "does not fit" in refusal(on_gpu, **small, options=EngineOptions(dtype="float32"))


def test_converted_weights_take_less_room() -> None:
    """FP8 lets a 32-billion-parameter model on one card of 48 GB; the server is told."""
    spec = model("Qwen__Qwen3-32B")
    made = on_gpu(spec=spec, instance_type="ml.g6e.4xlarge", options=EngineOptions(quantization="fp8"))
    assert made.container_environment()["OPTION_QUANTIZE"] == "fp8"


def test_a_format_that_the_chip_does_not_compute_with_is_refused() -> None:
    """Nor is a checkpoint that is published in FP8 converted again."""
    fp8 = EngineOptions(quantization="fp8")
    published = model("Qwen__Qwen3-30B-A3B-FP8")
    assert "is published in fp8 and is not converted to fp8" in refusal(on_gpu, spec=published, options=fp8)
    assert "Inferentia2 does not compute with fp8 weights" in refusal(
        instance_type="ml.inf2.48xlarge", spec=published
    )


def test_a_class_that_the_image_does_not_serve_is_refused() -> None:
    """With the classes that it does."""
    assert "image hf-vllm-neuronx does not serve GptOssForCausalLM; it serves GraniteForCausalLM" in refusal(
        spec=model("openai__gpt-oss-20b"), tensor_parallel=8
    )


def test_loading_takes_host_memory() -> None:
    """Neuron shards the whole checkpoint there; a given figure is believed."""
    text = refusal(instance_type="ml.inf2.xlarge", tensor_parallel=2, max_sequences=1, context_tokens=2048)
    assert text.startswith(
        "loading Qwen/Qwen3-8B takes 23815 MiB of host memory, but ml.inf2.xlarge has 14745"
    )
    made = serving(
        instance_type="ml.inf2.xlarge",
        tensor_parallel=2,
        max_sequences=1,
        context_tokens=2048,
        host_memory_mib=10_000,
    )
    assert made.host_memory_mib == 10_000


def test_a_share_of_the_host_that_is_too_small_names_what_is_needed() -> None:
    """Two chips of six have a third of the host, which loading takes more than."""
    tiny = UnlistedInstance(accelerator="Inferentia2", chips=6, vcpu=96, host_memory_gib=60)
    text = refusal(tensor_parallel=4, unlisted=tiny)
    assert text == (
        "loading Qwen/Qwen3-8B takes 23815 MiB of host memory, but the share of 2 of 6 chips of "
        "ml.inf2.24xlarge is 18432 MiB; give host_memory_mib=23815, which leaves 2 copies an instance"
    )


def test_a_plan_is_believed_about_memory_but_not_about_shapes() -> None:
    """It weighed the memory with the catalogs that it names."""
    assert serving(tensor_parallel=2, plan_hash="0123").chips == 1
    assert "cannot be cut" in refusal(tensor_parallel=12, plan_hash="0123")


def test_an_image_that_is_refused_on_a_chip_names_one_that_serves_there() -> None:
    """The catalog says why; Grace hosts have none."""
    assert refusal(instance_type="ml.trn2.48xlarge", image=image("hf-vllm-neuronx"), spec=None) == (
        "image 'hf-vllm-neuronx' does not serve on Trainium2: optimum-neuron 0.4 does not support trn2 yet "
        "(its vllm_plugin.mdx); give tokenmill-vllm-neuronx"
    )
    grace = refusal(on_gpu, instance_type="ml.p6e-gb200.36xlarge", spec=None)
    assert grace.startswith("image 'lmi-vllm' does not serve on GB200: the host is arm64 (Grace)")
    assert grace.endswith("; give another instance type")


def test_a_driver_that_is_too_old_is_refused() -> None:
    """CUDA 13 on a host image with CUDA 12.4 is what an endpoint without AMI version runs into."""
    old = replace(LMI, host_ami="al2-ami-sagemaker-inference-gpu-3-1")
    assert refusal(on_gpu, image=old) == (
        "image 'lmi-vllm' is built for CUDA 13.0, but host image al2-ami-sagemaker-inference-gpu-3-1 has "
        "NVIDIA 550 with CUDA 12.4; give al2023-ami-sagemaker-inference-gpu-4-1"
    )
    newest = replace(LMI, cuda="14.0")
    assert refusal(on_gpu, image=newest).endswith("; give an image for an older driver")


def test_a_host_image_for_another_accelerator_is_refused() -> None:
    """A Neuron driver drives no GPU."""
    wrong = replace(LMI, host_ami="al2-ami-sagemaker-inference-neuron-2")
    assert refusal(on_gpu, image=wrong) == (
        "host image al2-ami-sagemaker-inference-neuron-2 has the driver Neuron 2.19, but the chip is L40S; "
        "give al2023-ami-sagemaker-inference-gpu-4-1"
    )


def test_a_host_image_that_no_catalog_knows_is_warned_of() -> None:
    """SageMaker gets new ones."""
    made = on_gpu(image=replace(LMI, host_ami="al2023-ami-sagemaker-inference-gpu-9"))
    ((id, text),) = made.warnings
    assert id == "tokenmill:UnlistedHostImage"
    assert "al2023-ami-sagemaker-inference-gpu-9 is not in the catalog" in text


def test_an_unknown_instance_type_is_served_as_it_is_said_to_be_and_warned_of() -> None:
    """Without that it is refused with the nearest names."""
    said = UnlistedInstance(accelerator="L40S", chips=2, vcpu=48, host_memory_gib=256)
    made = on_gpu(instance_type="ml.g9e.24xlarge", tensor_parallel=2, unlisted=said)
    assert (made.chips, made.instance.name, made.serving_image.key) == (2, "ml.g9e.24xlarge", "lmi-vllm")
    ((id, text),) = made.warnings
    assert id == "tokenmill:UnlistedInstance"
    assert text.startswith("ml.g9e.24xlarge is taken as 2 x L40S with 256 GiB, as given in place of the")
    assert "unknown instance type 'ml.g9e.24xlarge'" in refusal(on_gpu, instance_type="ml.g9e.24xlarge")


def test_an_experimental_image_is_warned_of() -> None:
    """With what makes it so."""
    ((id, text),) = serving().warnings
    assert id == "tokenmill:ImageExperimental"
    assert text.startswith("image hf-vllm-neuronx on ml.inf2.24xlarge is experimental: ")
    assert on_gpu().warnings == ()


def test_options_reach_the_container_and_the_caller_s_own_variables_win() -> None:
    """In the words of the image."""
    options = EngineOptions(tools=ToolCalling(parser="hermes"))
    made = serving(options=options, environment={"SM_ON_TOOL_CALL_PARSER": "mistral"})
    told = made.container_environment()
    assert (told["SM_ON_ENABLE_AUTO_TOOL_CHOICE"], told["SM_ON_TOOL_CALL_PARSER"]) == ("", "mistral")


def test_every_option_problem_is_told_at_once_with_those_of_the_model() -> None:
    """Two options that the image lacks, and heads that do not divide."""
    options = EngineOptions(lora=LoraSlots(max_adapters=1), prefix_caching=True)
    lines = refusal(options=options, tensor_parallel=12).splitlines()
    assert [line.split()[0] for line in lines] == ["prefix_caching", "lora", "Qwen/Qwen3-8B"]


def test_buckets_must_hold_the_context_on_a_compiling_server() -> None:
    """On Trainium2, whose image is the one that is built."""
    trainium = {"instance_type": "ml.trn2.48xlarge", "spec": None, "context_tokens": 8192}
    assert "which no prompt of context_tokens 8192 fits" in refusal(
        **trainium, options=EngineOptions(buckets=(512, 2048))
    )
    made = serving(**trainium, options=EngineOptions(buckets=(512, 2048), chunked_prefill=True))
    assert made.container_environment()["SM_VLLM_MAX_NUM_BATCHED_TOKENS"] == "2048"


def test_drafts_and_stages_do_not_go_together() -> None:
    """vLLM has no such pipeline."""
    draft = EngineOptions(speculative=SpeculativeDraft(tokens=3, method="ngram"))
    assert refusal(
        on_gpu, instance_type="ml.g6e.12xlarge", pipeline_parallel=2, image=VLLM, options=draft
    ).startswith("speculative is given, but it does not go with pipeline_parallel 2; give 1, or leave")


def test_variables_that_sagemaker_does_not_take_are_refused() -> None:
    """More than a hundred, or a value longer than 1,024 characters."""
    many = {f"NAME_{number}": "x" for number in range(97)}
    assert refusal(environment=many) == (
        "the container gets 102 variables, but SageMaker takes 100; give fewer in environment"
    )
    assert refusal(environment={"LONG": "x" * 1025}) == (
        "variable LONG has 1025 characters, but SageMaker takes 1024; shorten it"
    )


def test_a_value_that_only_the_deployment_knows_is_refused() -> None:
    """Nothing could be checked with it."""
    token = cdk.Fn.ref("Type")
    assert refusal(instance_type=token) == (
        "instance_type is a value that only the deployment knows, but the split is checked at synthesis; "
        "give it as a plain value, such as from the CDK context"
    )
    number = cdk.Token.as_number(cdk.Fn.ref("Degree"))
    assert refusal(tensor_parallel=number).startswith("tensor_parallel is a value that only the deployment")
