"""Values are checked when they are made, and catalogs hold what AWS and the vendors publish."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.core._codec import canonical, decode, digest, encode
from tokenmill.core.coefficients import coefficients
from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.errors import NoPlanError, SettingsError, TokenmillError
from tokenmill.core.images import host_images, image, image_catalog, image_date, serving_image
from tokenmill.core.instances import (
    CATALOG_DATE,
    Price,
    accelerator_catalog,
    instance_catalog,
    instance_type,
    price_date,
)
from tokenmill.core.versions import catalog_versions
from tokenmill.core.workload import Capacity, Limits, Parallelism, Slo, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINE = EngineTiming(
    step_base_ms=20.0,
    step_per_sequence_ms=0.5,
    step_per_kv_token_ms=0.001,
    prefill_base_ms=5.0,
    prefill_per_token_ms=0.1,
    prefill_buckets=(128, 512),
    max_sequences=8,
    kv_capacity_tokens=8192,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Workload(requests_per_second=0, input_tokens=1, output_tokens=1),
            "requests_per_second must be above 0, got 0",
        ),
        (
            lambda: Workload(requests_per_second=float("nan"), input_tokens=1, output_tokens=1),
            "requests_per_second must be above 0, got nan",
        ),
        (lambda: Slo(ttft_ms=-1, itl_ms=5), "ttft_ms must be above 0, got -1"),
        (lambda: Slo(ttft_ms=1, itl_ms=5, percentile=100), "percentile must be 50 to 99.9, got 100"),
        (lambda: Capacity(minimum=2, maximum=1, initial=1), "capacity must satisfy"),
        (lambda: Capacity(minimum=0, maximum=0, initial=0), "maximum >= 1"),
        (lambda: Parallelism(tensor=0), "tensor parallelism must be 1 or more, got 0"),
        (lambda: Limits(context_tokens=5), "context_tokens must be 128 or more .*, got 5"),
        (
            lambda: Limits(target_utilization_percent=99),
            "target_utilization_percent must be 10 to 95, got 99",
        ),
        (lambda: Limits(max_instances=0), "max_instances must be above 0, got 0"),
    ],
)
def test_fails_for_a_value_out_of_range(make: Callable[[], object], message: str) -> None:
    """Name, value and range stand in the message."""
    with pytest.raises(TokenmillError, match=message):
        make()


def test_derived_values() -> None:
    """Tokens an hour, cores of a copy, and a fleet that never scales."""
    load = Workload(requests_per_second=2, input_tokens=300, output_tokens=200)
    assert load.tokens_per_hour == 2 * 3600 * 500
    assert Parallelism(tensor=4, pipeline=2, data=3).cores == 24
    assert Capacity.fixed(3) == Capacity(minimum=3, maximum=3, initial=3)


def test_instance_patterns() -> None:
    """No pattern allows all; a pattern matches as a file name does."""
    assert Limits().allows("ml.p5.48xlarge")
    limits = Limits(instances=("ml.inf2.*", "ml.g5.xlarge"))
    assert limits.allows("ml.inf2.8xlarge")
    assert limits.allows("ml.g5.xlarge")
    assert not limits.allows("ml.g5.2xlarge")


def test_whole_numbers_and_floats_are_one_value() -> None:
    """95 and 95.0 must not give two digests of one plan."""
    assert canonical(encode(Slo(ttft_ms=1, itl_ms=2, percentile=95))) == canonical(
        encode(Slo(ttft_ms=1.0, itl_ms=2.0, percentile=95.0))
    )


def test_errors_carry_their_exit_code() -> None:
    """1 is for goals that nothing meets, 2 for bad input; settings keep each problem apart."""
    assert (TokenmillError.exit_code, NoPlanError.exit_code) == (2, 1)
    assert str(SettingsError(["a", "b"])) == "a\nb"
    assert SettingsError(["a", "b"]).problems == ("a", "b")


def test_a_step_grows_with_sequences_and_cache() -> None:
    """Linear in both."""
    assert ENGINE.step_ms(0, 0) == 20
    assert ENGINE.step_ms(4, 1000) == pytest.approx(20 + 2 + 1)


@pytest.mark.parametrize(
    ("tokens", "padded"), [(1, 128), (128, 128), (129, 512), (512, 512), (513, 640), (1024, 1024), (0, 0)]
)
def test_a_prompt_is_padded_to_the_next_bucket(tokens: int, padded: int) -> None:
    """More than the largest bucket runs as several pieces."""
    assert ENGINE.padded_tokens(tokens) == padded
    assert ENGINE.prefill_ms(tokens) == pytest.approx(5 + 0.1 * padded)


def test_without_buckets_a_prompt_is_not_padded() -> None:
    """GPU servers compute what came in."""
    free = EngineTiming.from_json(ENGINE.to_json() | {"prefill_buckets": []})
    assert free.padded_tokens(300) == 300


positive = st.floats(0.001, 1e6)


@given(
    st.builds(
        EngineTiming,
        step_base_ms=positive,
        step_per_sequence_ms=positive,
        step_per_kv_token_ms=positive,
        prefill_base_ms=positive,
        prefill_per_token_ms=positive,
        prefill_buckets=st.lists(st.integers(1, 9999), unique=True).map(sorted).map(tuple),
        max_sequences=st.integers(1, 512),
        kv_capacity_tokens=st.integers(1, 10**7),
    ),
    st.integers(0, 20_000),
)
def test_engine_timing_survives_json(engine: EngineTiming, tokens: int) -> None:
    """What the template carries is what the model server reads; padding never shortens a prompt."""
    assert EngineTiming.from_json(engine.to_json()) == engine
    assert engine.padded_tokens(tokens) >= tokens


@dataclass(frozen=True)
class Inner:
    """A part."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size must be 0 or more, got {self.size}")


@dataclass(frozen=True)
class Outer:
    """A document with every kind of field."""

    name: str
    parts: tuple[Inner, ...]
    table: dict[str, float]
    maybe: int | None = None


GOOD: dict[str, Any] = {"name": "n", "parts": [{"size": 1}], "table": {"a": 1}, "maybe": None}


def test_a_document_is_decoded_by_its_types() -> None:
    """Whole numbers become floats where floats are declared."""
    assert decode(Outer, GOOD, "it") == Outer(name="n", parts=(Inner(1),), table={"a": 1.0})
    assert decode(Outer, GOOD | {"maybe": 3}, "it").maybe == 3
    assert encode(decode(Outer, GOOD, "it")) == GOOD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, r"it\.name must be a text, got 3"),
        ({"parts": {}}, r"it\.parts must be a list"),
        ({"parts": [{"size": "x"}]}, r"it\.parts\[0\]\.size must be a whole number, got 'x'"),
        ({"parts": [{"size": -1}]}, r"^it\.parts\[0\]: size must be 0 or more, got -1; write it again$"),
        ({"parts": [4]}, r"it\.parts\[0\] must be an object"),
        ({"parts": [{}]}, r"it\.parts\[0\] lacks size"),
        ({"table": []}, r"it\.table must be an object"),
        ({"table": {"a": "x"}}, r"it\.table\.a must be a number"),
        ({"maybe": "x"}, r"it\.maybe must be a whole number"),
        ({"more": 1}, r"it has unknown fields more"),
    ],
)
def test_fails_naming_the_path_of_a_bad_field(change: dict[str, Any], message: str) -> None:
    """A damaged file says where it is damaged."""
    with pytest.raises(TokenmillError, match=message):
        decode(Outer, GOOD | change, "it")


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_a_digest_does_not_depend_on_the_order_of_keys(document: dict[str, Any]) -> None:
    """One document, one digest."""
    assert digest(document) == digest(dict(reversed(document.items())))


def test_neuron_instances_are_what_the_architecture_pages_say() -> None:
    """Chips, cores and memory (AWS Neuron documentation: Inf2, Trn1 and Trn2 architecture)."""
    sizes = {
        name: (item.chips, item.cores, item.accelerator_memory_gib)
        for name, item in instance_catalog().items()
        if item.accelerator.kind == "neuron"
    }
    assert sizes == {
        "ml.inf2.xlarge": (1, 2, 32),
        "ml.inf2.8xlarge": (1, 2, 32),
        "ml.inf2.24xlarge": (6, 12, 192),
        "ml.inf2.48xlarge": (12, 24, 384),
        "ml.trn1.2xlarge": (1, 2, 32),
        "ml.trn1.32xlarge": (16, 32, 512),
        "ml.trn1n.32xlarge": (16, 32, 512),
        "ml.trn2.48xlarge": (16, 64, 1536),
    }


def test_only_types_that_hosting_accepts_are_in_the_catalog() -> None:
    """The service model that boto3 ships lists them (ProductionVariantInstanceType)."""
    import botocore.session

    shapes = botocore.session.get_session().get_service_model("sagemaker")
    accepted = set(shapes.shape_for("ProductionVariantInstanceType").enum)
    assert set(instance_catalog()) <= accepted


def test_only_inf2_has_no_local_volumes() -> None:
    """Amazon EC2 instance types: every other family of the catalog has instance store volumes."""
    families = {item.family for item in instance_catalog().values() if not item.local_nvme}
    assert families == {"inf2"}


def test_a_price_counts_in_its_own_region_only() -> None:
    """us-west-2 has a price for p5, us-east-1 has none; nothing is carried over."""
    p5 = instance_type("ml.p5.48xlarge")
    assert p5.price("us-west-2") is not None
    assert p5.price("us-east-1") is None
    inf2 = instance_type("ml.inf2.8xlarge").price("us-east-1")
    assert inf2 is not None
    assert (inf2.usd_per_hour, inf2.source_date) == (2.36, "2025-04-11")


def test_a_price_is_stale_after_180_days() -> None:
    """A price that the user gave never is."""
    price = Price(usd_per_hour=1, source="somewhere", source_date="2026-01-01")
    assert not price.stale(datetime.date(2026, 6, 30))
    assert price.stale(datetime.date(2026, 7, 1))
    given_now = Price(usd_per_hour=1, source="given on the command line", source_date="")
    assert not given_now.stale(datetime.date(2030, 1, 1))


def test_every_row_names_its_source_and_date() -> None:
    """A catalog without provenance cannot be checked."""
    rows = [*instance_catalog().values(), *accelerator_catalog().values(), *image_catalog().values()]
    prices = [price for item in instance_catalog().values() for price in item.prices.values()]
    for row in [*rows, *prices]:
        assert row.source
        assert datetime.date.fromisoformat(row.source_date)
    assert catalog_versions() == {
        "instances": CATALOG_DATE,
        "prices": price_date(),
        "images": image_date(),
        "coefficients": coefficients().date,
    }


def test_fails_for_an_unknown_type_with_the_nearest() -> None:
    """A typing error finds its way back."""
    with pytest.raises(TokenmillError, match=r"'ml.inf2.7xlarge'; nearest known: ml.inf2.xlarge"):
        instance_type("ml.inf2.7xlarge")
    with pytest.raises(TokenmillError, match=r"nearest known: ml\.g5\.\*, "):
        instance_type("%%%")


def test_every_accelerator_has_an_image() -> None:
    """And the image's host AMI is one that the service accepts (ProductionVariantInferenceAmiVersion)."""
    import botocore.session

    model = botocore.session.get_session().get_service_model("sagemaker")
    amis = set(model.shape_for("ProductionVariantInferenceAmiVersion").enum)
    served = {name for item in image_catalog().values() for name in item.accelerators}
    assert served == set(accelerator_catalog())
    assert {item.host_ami for item in image_catalog().values()} <= set(host_images()) == amis


def test_an_image_has_its_name_in_each_region() -> None:
    """China has its own domain; a region without the image is refused with the regions that have it."""
    hf = image("hf-vllm-neuronx")
    assert hf.uri("us-east-1") == (
        "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-vllm-inference-neuronx:"
        "0.11.0-optimum0.4.5-neuronx-py310-sdk2.26.1-ubuntu22.04"
    )
    assert image("lmi-vllm").uri("cn-north-1").startswith("727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/")
    with pytest.raises(TokenmillError, match="'af-south-1'; regions with it: ap-northeast-1, ap-south-1"):
        hf.uri("af-south-1")
    with pytest.raises(TokenmillError, match="regions with it: none"):
        image("aws-vllm-neuronx").uri("us-east-1")
    with pytest.raises(TokenmillError, match="unknown serving image 'x'; known: hf-vllm-neuronx"):
        image("x")


def test_the_image_follows_the_accelerator() -> None:
    """A region is checked where it is known; trn2 has no image that an endpoint can start."""
    inf2 = instance_type("ml.inf2.8xlarge")
    assert serving_image(inf2, "us-east-1").key == serving_image(inf2).key == "hf-vllm-neuronx"
    with pytest.raises(TokenmillError, match="image hf-vllm-neuronx is not in region 'eu-north-1'"):
        serving_image(inf2, "eu-north-1")
    assert not serving_image(instance_type("ml.trn2.48xlarge"), "us-east-1").servable
    assert serving_image(instance_type("ml.g5.xlarge")).status == "documented"


def test_the_environment_speaks_the_images_own_language() -> None:
    """An empty value is a flag without argument for `optimum-cli neuron serve` (its entrypoint script)."""
    hf = image("hf-vllm-neuronx").environment(
        model="Qwen/Qwen3-8B", max_sequences=8, context_tokens=4096, tensor_parallel=2
    )
    assert hf == {
        "SM_ON_MODEL": "Qwen/Qwen3-8B",
        "SM_ON_BATCH_SIZE": "8",
        "SM_ON_SEQUENCE_LENGTH": "4096",
        "SM_ON_TENSOR_PARALLEL_SIZE": "2",
        "SM_ON_ALLOW_NON_CACHED_MODEL": "",
    }
    lmi = image("lmi-vllm").environment(
        model="Qwen/Qwen3-8B", max_sequences=64, context_tokens=4096, tensor_parallel=1
    )
    assert lmi["HF_MODEL_ID"] == "Qwen/Qwen3-8B"
    assert lmi["OPTION_TENSOR_PARALLEL_DEGREE"] == "1"
    vllm = {
        "SM_VLLM_MODEL": "a/b",
        "SM_VLLM_MAX_NUM_SEQS": "4",
        "SM_VLLM_MAX_MODEL_LEN": "1024",
        "SM_VLLM_TENSOR_PARALLEL_SIZE": "8",
    }
    for key in ("aws-vllm-neuronx", "tokenmill-vllm-neuronx", "vllm-sagemaker"):
        assert vllm == image(key).environment(
            model="a/b", max_sequences=4, context_tokens=1024, tensor_parallel=8
        )
        assert image(key).model_variable == "SM_VLLM_MODEL"
