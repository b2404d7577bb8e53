"""Which files of well-known repositories are copied; the lists are those of the Hub, shortened."""

from __future__ import annotations

import pytest

from tokenmill_runtime.model_mirror.choice import RemoteFile, choose
from tokenmill_runtime.model_mirror.failure import Failure
from tokenmill_runtime.model_mirror.parts import PART_BYTES, part_bytes


def kept(*paths: str) -> set[str]:
    """The paths that are kept of a repository."""
    return {file.path for file in choose(RemoteFile(path, 1, None, "x") for path in paths).kept}


SMALL = ("LICENSE", "README.md", "config.json", "generation_config.json", "tokenizer.json", "vocab.json")


def test_a_repository_of_safetensors_is_kept_whole() -> None:
    """Qwen3: nothing is twice; git's own files serve nobody."""
    weights = ("model-00001-of-00002.safetensors", "model.safetensors.index.json")
    assert kept(".gitattributes", *SMALL, *weights) == {*SMALL, *weights}


def test_pickles_of_the_same_weights_are_left_out() -> None:
    """Older repositories hold the same weights for PyTorch, TensorFlow, Flax, Rust and ONNX."""
    twice = (
        "pytorch_model.bin",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model.bin.index.json",
        "tf_model.h5",
        "flax_model.msgpack",
        "rust_model.ot",
        "onnx/model.onnx",
        "model-q4.gguf",
        "training_args.bin",
    )
    assert kept(*SMALL, "model.safetensors", *twice) == {*SMALL, "model.safetensors"}


def test_llama_s_original_folder_is_left_out() -> None:
    """meta-llama keeps consolidated.00.pth and its parameters beside the safetensors."""
    original = ("original/consolidated.00.pth", "original/params.json", "original/tokenizer.model")
    assert kept(*SMALL, "model-00001-of-00004.safetensors", *original) == {
        *SMALL,
        "model-00001-of-00004.safetensors",
    }


def test_mistral_s_consolidated_weights_are_left_out() -> None:
    """Mistral's repositories hold every weight twice as safetensors; the tokenizer files stay."""
    files = ("params.json", "tekken.json", "model-00001-of-00003.safetensors")
    assert kept(*files, "consolidated.safetensors") == set(files)


def test_consolidated_weights_alone_are_kept() -> None:
    """Some of Mistral's repositories have no others."""
    files = ("params.json", "tekken.json", "consolidated-00001-of-00002.safetensors")
    assert kept(*files) == set(files)


def test_gpt_oss_s_copies_are_left_out() -> None:
    """openai/gpt-oss-20b: "original" and "metal" are the same weights again."""
    copies = ("original/model.safetensors", "original/config.json", "metal/model.bin")
    assert kept(*SMALL, "model-00000-of-00002.safetensors", *copies) == {
        *SMALL,
        "model-00000-of-00002.safetensors",
    }


def test_modules_in_folders_stay() -> None:
    """Sentence-transformers keeps layers of the model in folders of their own."""
    files = ("model.safetensors", "1_Pooling/config.json", "2_Dense/model.safetensors", "2_Dense/config.json")
    assert kept(*files) == set(files)


def test_an_export_for_neuron_is_kept_whole() -> None:
    """optimum-neuron's graphs are in model.pt, which is no copy of the shards."""
    files = (
        "config.json",
        "neuron_config.json",
        "model.pt",
        "checkpoint/weights/tp0_sharded_checkpoint.safetensors",
        "model.safetensors",
    )
    assert kept(*files) == set(files)


def test_pickles_are_kept_where_there_is_nothing_else() -> None:
    """And the log says that they can run code."""
    found = choose(RemoteFile(path, 1, None, "x") for path in (*SMALL, "pytorch_model.bin", "tf_model.h5"))
    assert {file.path for file in found.kept} == {*SMALL, "pytorch_model.bin"}
    assert found.pickled


def test_every_file_left_out_has_a_reason() -> None:
    """The manifest and the log say why."""
    found = choose(RemoteFile(path, 1, None, "x") for path in ("model.safetensors", "pytorch_model.bin"))
    assert found.left_out == (("pytorch_model.bin", "the same weights are there as safetensors"),)


def test_other_formats_are_kept_where_there_is_nothing_else() -> None:
    """A repository of GGUF files is what was asked for."""
    assert kept("README.md", "model-q4.gguf") == {"README.md", "model-q4.gguf"}


def test_fails_without_weights() -> None:
    """A repository of an adapter's code, or of nothing, would serve nothing."""
    with pytest.raises(Failure, match="no weights"):
        kept("README.md", "config.json")


def test_no_file_has_more_parts_than_s3_takes() -> None:
    """10,000 parts of 5 MiB to 5 GiB, for files up to 5 TB."""
    for size in (1, PART_BYTES, 400 * 10**9, 5 * 10**12):
        part = part_bytes(size)
        assert -(-size // part) <= 10_000
        assert 5 << 20 <= part <= 5 << 30
