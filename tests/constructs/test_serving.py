"""What one copy is and needs, before any template."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support_planner import CHAT, GOALS, model
from support_stack import ENGINE, plan
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.endpoints import Serving
from tokenmill.planner import plan as plan_of


def serving(**changes: Any) -> Serving:
    fields: dict[str, Any] = {
        "model": "Qwen/Qwen3-8B",
        "instance_type": "ml.inf2.24xlarge",
        "tensor_parallel": 4,
        "max_sequences": 8,
        "context_tokens": 8192,
    }
    return Serving(**{**fields, **changes})


def test_a_copy_takes_whole_chips_of_the_instance() -> None:
    """Four cores of Inferentia2 are two chips, and six chips hold three such copies."""
    copy = serving()
    assert (copy.chips, copy.copies_per_instance) == (2, 3)


def test_chips_that_no_further_copy_fits_on_stay_idle() -> None:
    """Four chips of six: one copy an instance, as the planner counts it."""
    assert serving(tensor_parallel=8).copies_per_instance == 1


def test_host_memory_can_hold_fewer_copies_than_the_chips() -> None:
    """Two copies of 150,000 MiB fit into 384 GiB, where the chips would hold three."""
    assert serving(host_memory_mib=150_000).copies_per_instance == 2


@pytest.mark.parametrize("name", ["Qwen__Qwen3-8B", "Qwen__Qwen3-32B", "Qwen__Qwen3-30B-A3B-FP8"])
def test_whatever_the_planner_offers_can_be_served(name: str) -> None:
    """On every instance type of the catalog, with as many copies an instance as were planned."""
    made = plan_of(model=model(name), workload=CHAT, slo=GOALS, region="us-east-1")
    assert len(made.candidates) > 5
    for offered in made.candidates:
        copy = Serving.from_plan(replace(made, candidates=(offered,)))
        assert (copy.chips, copy.copies_per_instance) == (
            offered.chips_per_copy,
            offered.copies_per_instance,
        ), offered.instance_type


def test_the_environment_speaks_the_image_s_language() -> None:
    """The Neuron image reads SM_ON_ variables, the GPU image OPTION_ ones."""
    assert serving().container_environment() == {
        "SM_ON_MODEL": "Qwen/Qwen3-8B",
        "SM_ON_BATCH_SIZE": "8",
        "SM_ON_SEQUENCE_LENGTH": "8192",
        "SM_ON_TENSOR_PARALLEL_SIZE": "4",
        "SM_ON_ALLOW_NON_CACHED_MODEL": "",
    }
    on_gpu = serving(instance_type="ml.g6e.12xlarge", environment={"OPTION_DTYPE": "fp8"})
    assert on_gpu.container_environment() == {
        "HF_MODEL_ID": "Qwen/Qwen3-8B",
        "OPTION_MAX_ROLLING_BATCH_SIZE": "8",
        "OPTION_MAX_MODEL_LEN": "8192",
        "OPTION_TENSOR_PARALLEL_DEGREE": "4",
        "OPTION_DTYPE": "fp8",
    }


def test_a_plan_s_chosen_candidate_becomes_what_is_served() -> None:
    """Nothing that was planned is lost on the way to the template."""
    made = plan()
    copy = Serving.from_plan(made)
    assert (copy.model, copy.instance_type, copy.tensor_parallel) == ("Qwen/Qwen3-8B", "ml.inf2.8xlarge", 2)
    assert (copy.max_sequences, copy.context_tokens, copy.host_memory_mib) == (8, 8192, 40_000)
    assert (copy.engine, copy.plan_hash, copy.serving_image.key) == (ENGINE, made.hash, "hf-vllm-neuronx")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tensor_parallel": 3},
            "tensor_parallel is 3, which leaves cores of a chip idle; ml.inf2.24xlarge has 2 cores a chip "
            "and a copy takes whole chips, so give a multiple of 2",
        ),
        (
            {"tensor_parallel": 14},
            "tensor_parallel is 14, but ml.inf2.24xlarge has 12 cores; give 12 or less, or a larger instance "
            "type",
        ),
        ({"tensor_parallel": 0}, "tensor_parallel is 0; it must be 1 or more"),
        ({"max_sequences": 0}, "max_sequences is 0; it must be 1 or more"),
        ({"context_tokens": -1}, "context_tokens is -1; it must be 1 or more"),
        (
            {"host_memory_mib": 400_000},
            "host_memory_mib is 400000, but ml.inf2.24xlarge has 353894 MiB for copies; give a larger "
            "instance type",
        ),
        (
            {"image": image("lmi-vllm")},
            "image 'lmi-vllm' runs on A10G, L4, L40S, A100-40GB, A100-80GB, H100, H200, RTX-PRO-4500, "
            "RTX-PRO-6000, B200, B300, GB200, but ml.inf2.24xlarge has Inferentia2; leave image out, or give "
            "an instance type that it runs on",
        ),
        (
            {
                "instance_type": "ml.g6.12xlarge",
                "pipeline_parallel": 4,
                "image": image("vllm-sagemaker"),
            },
            "tensor_parallel is 4 times pipeline_parallel 4, but ml.g6.12xlarge has 4 cores; give 4 or less, "
            "or a larger instance type",
        ),
        (
            {"tensor_parallel": 2, "pipeline_parallel": 2},
            "pipeline_parallel is 2, but image 'hf-vllm-neuronx' has no option for stages; give 1, or a type "
            "whose image has",
        ),
        (
            {"instance_type": "ml.g6.12xlarge", "tensor_parallel": 2, "pipeline_parallel": 2},
            "pipeline_parallel is 2, but image 'lmi-vllm' has no option for stages; give 1, or "
            "image=image('vllm-sagemaker')",
        ),
    ],
)
def test_fails_when_the_shape_does_not_fit(changes: dict[str, Any], message: str) -> None:
    """Each message has the value, what is allowed and the way out."""
    with pytest.raises(TokenmillError) as caught:
        serving(**changes)
    assert str(caught.value) == message


def test_fails_with_every_problem_at_once() -> None:
    """A wrong shape and a wrong image are told together."""
    with pytest.raises(TokenmillError, match=r"(?s)tensor_parallel is 3.*\nimage 'lmi-vllm' runs on"):
        serving(tensor_parallel=3, image=image("lmi-vllm"))


def test_trainium2_is_served_by_the_image_that_is_built_from_aws_own() -> None:
    """AWS's has no serve entrypoint and stands in no private registry, whether asked for or not."""
    for asked in (None, image("aws-vllm-neuronx")):
        copy = serving(instance_type="ml.trn2.48xlarge", image=asked)
        assert (copy.serving_image.key, copy.needs_built_image) == ("tokenmill-vllm-neuronx", True)
    assert not serving().needs_built_image


def test_fails_when_no_endpoint_can_start_the_image() -> None:
    """An image without a serve entrypoint that nothing is built from on the chip."""
    bare = replace(image("aws-vllm-neuronx"), accelerators=("Inferentia2",), pairings=())
    with pytest.raises(TokenmillError, match="'aws-vllm-neuronx' cannot be served by an endpoint as it is: "):
        serving(image=bare)


def test_fails_for_an_unknown_instance_type() -> None:
    """The catalog names the nearest ones."""
    with pytest.raises(TokenmillError, match="unknown instance type 'ml.inf2.25xlarge'; nearest known"):
        serving(instance_type="ml.inf2.25xlarge")


def test_stages_take_chips_and_are_told_to_the_container() -> None:
    """Two stages of two GPUs each are four chips, and vLLM's own variable says so."""
    whole = serving(instance_type="ml.g6.12xlarge", tensor_parallel=2, image=image("vllm-sagemaker"))
    staged = replace(whole, pipeline_parallel=2)
    assert (staged.cores, staged.chips, staged.copies_per_instance) == (4, 4, 1)
    assert staged.container_environment()["SM_VLLM_PIPELINE_PARALLEL_SIZE"] == "2"
    assert "SM_VLLM_PIPELINE_PARALLEL_SIZE" not in whole.container_environment()
