"""The score of the memory model: facts that others published, and files that cannot be scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tokenmill.core.errors import TokenmillError
from tokenmill.planner.memory_accuracy import read_facts, score_memory

LLAMA = {
    "model": "Llama-3.1-8B",
    "hf_id": "meta-llama/Llama-3.1-8B-Instruct",
    "instance_type": "inf2.48xlarge",
    "tp_degree": "8",
    "batch_size": "32",
    "seq_len": "4096",
    "dtype": "bf16",
    "unit": "MB (sysfs)",
    "source": "huggingface/optimum-neuron@6373c379:benchmark/vllm/memory_capacity_analysis.md",
}
# part, rank 0, ranks 1 to 7: huggingface/optimum-neuron@6373c379, 2026-03-03
MEASURED = [
    ("tensors (weights+KV)", 5815, 3996),
    ("model weights", 3767, 1948),
    ("KV cache", 2048, 2048),
    ("model_shared_scratchpad", 1024, 1024),
    ("collectives", 472, 126),
    ("dma_rings", 392, 220),
    ("model_code (NEFF)", 319, 228),
    ("other", 8, 7),
    ("total", 8029, 5600),
]
NXD = "aws-neuron/neuronx-distributed-inference@4bcdc54:contrib/models"
ROSA = "manu-joy/rosa-llm-driven-deployment:inferentia_vllm_test_results.md"
QWEN = "huggingface/optimum-neuron@a4dafb1e:benchmark/vllm/qwen3-30B-A3B-2507/README.md"


def row(fact: str, value: object, **change: str) -> dict[str, str]:
    return LLAMA | {"fact": fact, "value": str(value)} | change


@pytest.mark.parametrize(("part", "first", "others"), MEASURED)
def test_a_measured_core_is_predicted_within_three_percent(part: str, first: int, others: int) -> None:
    """Llama-3.1-8B on ml.inf2.48xlarge: every category, on the first core and on the others."""
    rows = [
        row(f"HBM peak per core, rank 0: {part}", first),
        row(f"HBM peak per core, ranks 1-7: {part}", others),
    ]
    made = score_memory(rows)
    assert [item.measured for item in made.per_core] == [first, others]
    assert max(item.ape_percent for item in made.per_core) <= 3


def test_the_table_in_the_documentation_is_what_the_code_says() -> None:
    """docs/memory.md, line by line."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "memory.md").read_text(encoding="utf-8")
    for part, first, others in MEASURED:
        rows = [row(f"rank 0: {part}", first), row(f"ranks 1-7: {part}", others)]
        cells = [f"{item.measured:,.0f} | {item.predicted:,.0f}" for item in score_memory(rows).per_core]
        assert f"| {part} | {cells[0]} | {cells[1]} |" in page


def test_the_share_of_a_device_in_use_is_that_of_the_copys_cores() -> None:
    """74.7 % at batch 32 for Qwen3-30B-A3B on 8 cores (the page of QWEN, 2026-03-18)."""
    change = {"model": "Qwen3-30B-A3B", "unit": "%", "source": QWEN}
    (item,) = score_memory([row("device memory utilisation", "74.7", **change)]).per_core
    assert item.predicted == pytest.approx(74.7, rel=0.03)


@pytest.mark.parametrize(
    ("model", "tensor", "batch", "tokens", "fact", "gib"),
    [
        ("DeepSeek-V3", "64", "1", "512", "sharded checkpoint per rank", "21.4"),
        ("Trinity-Large", "32", "", "2048", "weights per logical core", "23.5"),
    ],
)
def test_what_a_logical_core_of_trainium2_holds(
    model: str, tensor: str, batch: str, tokens: str, fact: str, gib: str
) -> None:
    """As their ports state it; latent down-projections and routers are on every core."""
    change = {"model": model, "instance_type": "trn2.48xlarge", "tp_degree": tensor, "unit": "GB"}
    rows = [row(fact, gib, batch_size=batch, seq_len=tokens, source=NXD, **change)]
    (item,) = score_memory(rows).per_core
    assert item.unit == "GB"
    assert item.ape_percent < 1


@pytest.mark.parametrize(
    ("model", "instance", "tensor", "batch", "tokens", "dtype", "source", "fits"),
    [
        ("Qwen3-30B-A3B", "inf2.48xlarge", 8, 64, 4096, "bf16", QWEN, False),
        ("Qwen3-30B-A3B", "inf2.48xlarge", 8, 32, 4096, "bf16", QWEN, True),
        ("Qwen3-Coder-30B-A3B", "inf2.24xlarge", 8, 16, 8192, "bf16", ROSA, True),
        ("Qwen3-32B", "inf2.24xlarge", 8, 4, 4096, "bf16", ROSA, True),
        ("DeepSeek-V3", "trn2.48xlarge", 64, 1, 512, "bf16", NXD, True),
        ("DeepSeek-V3", "trn2.48xlarge", 64, 1, 1024, "bf16", NXD, False),
        ("Trinity-Large", "trn2.48xlarge", 64, 4, 2048, "bf16", NXD, True),
        ("GLM-5.2", "trn2.48xlarge", 64, 1, 2048, "bf16", NXD, False),
        ("GLM-5.2", "trn2.48xlarge", 64, 1, 2048, "fp8", NXD, True),
        ("MiniMax-M3", "trn2.48xlarge", 64, 8, 8192, "bf16", NXD, False),
        ("MiniMax-M3", "trn2.48xlarge", 64, 8, 2048, "bf16", NXD, True),
        ("gpt-oss-120b", "trn2.48xlarge", 8, "", "", "bf16", "aws-neuron/aws-neuron-sdk@81ce03a", False),
    ],
)
def test_what_fitted_is_predicted_to_fit_and_what_did_not_not(
    model: str,
    instance: str,
    tensor: int,
    batch: int | str,
    tokens: int | str,
    dtype: str,
    source: str,
    fits: bool,
) -> None:
    """Stated or measured by the pages named; a missing batch or length is taken as the least."""
    change = {"model": model, "instance_type": instance, "dtype": dtype, "unit": "bool", "source": source}
    counts = {"tp_degree": str(tensor), "batch_size": str(batch), "seq_len": str(tokens)}
    (item,) = score_memory([row("fits", int(fits), **change, **counts)]).fit
    assert item.right
    assert item.predicted is fits
    assert item.assumed == (("batch_size 1", "seq_len 1") if batch == "" else ())


@pytest.mark.parametrize(
    ("fact", "instance", "fits"),
    [
        ("fits without pre-sharding (16 GB host RAM)", "inf2.xlarge", False),
        ("fits with pre-sharded weights", "inf2.xlarge", True),
        ("fits while sharding on the host", "ml.inf2.8xlarge", True),
    ],
)
def test_a_host_runs_out_while_it_shards(fact: str, instance: str, fits: bool) -> None:
    """Trinity-Nano, 12 GB of weights on 16 GB of host memory (contrib/models/Trinity/README.md)."""
    change = {"model": "Trinity-Nano", "instance_type": instance, "tp_degree": "1", "batch_size": "1"}
    (item,) = score_memory([row(fact, int(fits), unit="bool", source=NXD, **change)]).fit
    assert item.right


def test_a_server_prefills_one_prompt_and_a_static_loop_the_whole_batch() -> None:
    """DeepSeek-V3 at batch 8 ran under vLLM, which the port's own loop would not have had room for."""
    change = {"model": "DeepSeek-V3", "instance_type": "trn2.48xlarge", "tp_degree": "64", "batch_size": "8"}
    rows = [
        row("fits", 1, unit="bool", source=NXD, seq_len="512", notes=note, **change) for note in ("", "vLLM")
    ]
    assert [item.predicted for item in score_memory(rows).fit] == [False, True]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "Nothing-1B", "hf_id": ""}, "unknown model 'Nothing-1B'"),
        ({"instance_type": "inf9.xlarge"}, "unknown instance type 'inf9.xlarge'"),
        ({"dtype": "fp5"}, "unknown dtype 'fp5'"),
        ({"tp_degree": ""}, "no tp_degree"),
        ({"tp_degree": "0"}, "tp_degree is '0', not a whole number above 0"),
        ({"tp_degree": "48"}, "tp_degree 48 is more than the 24 cores of ml.inf2.48xlarge"),
        ({"batch_size": ""}, "no batch_size"),
        ({"seq_len": "4k"}, "seq_len is '4k', not a whole number above 0"),
        ({"unit": "furlong"}, "unknown unit 'furlong'"),
        ({"unit": "%"}, "unknown percentage 'total'"),
        ({"unit": "bool"}, "unknown statement 'total' = '5600'"),
        ({"value": ""}, "value is '', not a number above 0"),
        ({"value": "nan"}, "value is 'nan', not a number above 0"),
        ({"value": "-1"}, "value is '-1', not a number above 0"),
        ({"fact": "temperature"}, "unknown figure 'temperature'"),
        ({"fact": "rank 9: total"}, "rank 9 of 8 cores"),
        ({"fact": "fits", "value": "perhaps", "unit": "bool"}, "unknown statement 'fits' = 'perhaps'"),
    ],
)
def test_a_row_without_its_inputs_is_skipped_with_the_reason(change: dict[str, str], reason: str) -> None:
    """And counted."""
    made = score_memory([row("total", 5600), row("total", 5600) | change])
    assert [(item.row, item.reason) for item in made.skipped] == [(2, reason)]
    assert made.to_json()["summary"]["skipped"] == 1


def test_a_figure_without_a_rank_is_that_of_the_many() -> None:
    """Thousands separators and binary names are read; a model may be named by its id."""
    made = score_memory([row("total per core", "5,600", unit="MiB", model="")])
    assert made.per_core[0].predicted == pytest.approx(5568, rel=0.001)


def test_a_plain_row_takes_the_models_own_format() -> None:
    """gpt-oss-120b is stored in MXFP4: an empty dtype leaves it so, and 8 cores hold it."""
    change = {"model": "gpt-oss-120b", "instance_type": "trn2.48xlarge", "dtype": "", "unit": "bool"}
    (item,) = score_memory([row("fits", 1, **change)]).fit
    assert item.right


def test_a_fit_without_a_degree_takes_all_cores() -> None:
    """Trinity-Mini, about 48 GB, does not fit ml.inf2.8xlarge however it is split (its port's page)."""
    change = {"model": "Trinity-Mini", "instance_type": "inf2.8xlarge", "tp_degree": "", "unit": "bool"}
    (item,) = score_memory([row("fits", 0, source=NXD, batch_size="1", seq_len="2048", **change)]).fit
    assert item.right
    assert item.assumed == ("tp_degree 2",)


def test_the_document_has_a_summary_and_every_row() -> None:
    """JSON-safe, with the error of each figure."""
    rows = [
        row("HBM peak per core, rank 0: total", 8029),
        row("fits", 1, unit="bool"),
        row("temperature", 50),
    ]
    made = json.loads(json.dumps(score_memory(rows).to_json(), allow_nan=False))
    assert (
        made["per_core"][0]["ape_percent"]
        == made["summary"]["per_core_mape"]
        == made["summary"]["per_core_max_ape"]
    )
    assert made["fit"][0]["right"] is True
    assert made["summary"] == {
        "per_core_rows": 1,
        "per_core_mape": pytest.approx(1.2, abs=0.1),
        "per_core_max_ape": pytest.approx(1.2, abs=0.1),
        "per_core_within_5_percent": 1,
        "fit_rows": 1,
        "fit_right": 1,
        "skipped": 1,
    }
    assert score_memory([row("temperature", 50)]).to_json()["summary"]["per_core_mape"] is None


def test_fails_without_rows_or_columns() -> None:
    """Every missing column is named."""
    with pytest.raises(TokenmillError, match="no rows to score; the columns are model, instance_type"):
        score_memory([])
    with pytest.raises(TokenmillError, match="missing columns fact, value, unit; needed: model"):
        score_memory(
            [{name: "" for name in ("model", "instance_type", "tp_degree", "batch_size", "seq_len", "dtype")}]
        )
    with pytest.raises(TokenmillError, match="missing column unit; needed"):
        score_memory([{name: value for name, value in row("total", 1).items() if name != "unit"}])


def test_a_file_is_read_and_a_short_line_is_skipped(tmp_path: Path) -> None:
    """A byte order mark does no harm."""
    path = tmp_path / "facts.csv"
    names = list(row("total", 5600))
    text = ",".join(names) + "\n" + ",".join(row("total", 5600).values()) + "\nLlama-3.1-8B,x\n"
    path.write_text("\ufeff" + text, encoding="utf-8")
    made = score_memory(read_facts(path))
    assert len(made.per_core) == 1
    assert made.skipped[0].reason == "unknown instance type ''"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows; its columns must be model, instance_type"),
        (b"model,fact\n", "has no rows"),
        (b"\xff\xfe\x00", "is not CSV in UTF-8"),
        (b'model,fact\n"a"b,c\n', "is not CSV in UTF-8"),
    ],
)
def test_fails_on_a_file_that_is_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "facts.csv"
    path.write_bytes(content)
    with pytest.raises(TokenmillError, match=message):
        read_facts(path)


def test_fails_on_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="does not exist"):
        read_facts(tmp_path / "none.csv")
    with pytest.raises(TokenmillError, match="is a folder"):
        read_facts(tmp_path)
