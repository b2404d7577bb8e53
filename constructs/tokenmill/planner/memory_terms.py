"""The terms of a core's memory: constants of the measured case, and what follows from the shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core.images import image_of
from tokenmill.core.instances import GIB
from tokenmill.core.model_formats import QUANTIZED_BYTES, quantized_parts

if TYPE_CHECKING:
    from tokenmill.core.instances import Accelerator
    from tokenmill.core.model_spec import AttentionGroup, ModelSpec, Projection
    from tokenmill.core.workload import Parallelism

MIB = 1024**2
MEASURED_LAYERS = 32
"""Layers of Llama-3.1-8B, whose cores were measured at tensor parallel 8, batch 32, 4,096 tokens
(huggingface/optimum-neuron@6373c379: benchmark/vllm/memory_capacity_analysis.md); its MB are MiB, since its
2,048 MB of KV cache are exactly 2**31 bytes."""
MICROCODE_BYTES = 96 * MIB
"""Of each physical core (AWS Neuron documentation: "Neuron Device Memory", model code)."""
CODE_BYTES_PER_LAYER = (228 * MIB - MICROCODE_BYTES) / MEASURED_LAYERS
"""Compiled graphs are unrolled layer by layer: 228 MB measured, less the microcode."""
RING_BYTES_PER_LAYER = 220 * MIB / MEASURED_LAYERS
"""Descriptors of the transfers that the graphs make, 220 MB measured; they too are made layer by layer."""
COLLECTIVES_BYTES = 126 * MIB
"""Measured at 8 cores; assumed of every core, one alone included, since no source says how it grows."""
OTHER_BYTES = 7 * MIB
FIRST_CORE_COLLECTIVES = (472 - 126) * MIB
FIRST_CORE_RINGS = (392 - 220) * MIB
FIRST_CORE_CODE = (319 - 228) * MIB
FIRST_CORE_OTHER = (8 - 7) * MIB
"""The first core of optimum-neuron holds the embeddings whole and more of everything else: as measured."""
SCRATCH_PAGE_BYTES = 512 * MIB
"""The runtime hands out scratch space in pages (AWS Neuron documentation: "Neuron Device Memory")."""
HIDDEN_BUFFERS = 4
"""Hidden states that live together: residual stream, its norm, a branch's output, the all-reduce's; as many
again for each copy of a token that goes to an expert. An assumption that agrees with what is stated of
DeepSeek-V3, which loads at 512 tokens and not at 1,024 (aws-neuron/neuronx-distributed-inference@4bcdc54:
contrib/models/DeepSeek-V3/README.md)."""
SCORE_BYTES = 6
"""A float32 softmax beside its 16-bit copy (huggingface/optimum-neuron@v0.4.5: attention_base.py)."""
FLASH_TOKENS = 4096
"""Prompts from this length on go through the flash kernel, whose scores never leave the core (same file)."""
GPU_MEMORY_SHARE = 0.9
"""vLLM takes 90 % of a GPU's memory unless told otherwise (vLLM documentation: "gpu_memory_utilization")."""
GPU_BASE_BYTES = 1.0 * GIB
"""CUDA context, NCCL buffers and CUDA graphs of one GPU: an allowance, not a measurement."""
LARGE_GPU_GIB = 70
GPU_STEP_TOKENS = {True: 8192, False: 2048}
"""Most tokens of one step of vLLM's server, on GPUs of 70 GiB and more other than A100, and on the rest
(vllm-project/vllm: vllm/engine/arg_utils.py, max_num_batched_tokens)."""
KV_NAMES = ("k_proj", "v_proj")
QUERY_NAMES = ("q_proj", "o_proj")
WHOLE_NAMES = ("q_a_proj", "kv_a_proj_with_mqa", "kv_a_proj")
"""Plain linear layers, not sharded (aws-neuron/neuronx-distributed-inference@4bcdc54:
models/deepseek/modeling_deepseek.py; vllm-project/vllm: deepseek_v2.py, ReplicatedLinear)."""


@dataclass(frozen=True, slots=True)
class Split:
    """A model on cores of one kind; the layers are those of the longest pipeline stage.

    Args:
        model: The model.
        accelerator: The chip.
        parallelism: How a copy is split.
    """

    model: ModelSpec
    accelerator: Accelerator
    parallelism: Parallelism

    @property
    def layout(self) -> str:
        """How the server of the chip fills it: "paged", "optimum" or "nxd"."""
        return image_of(self.accelerator.name).memory_layout

    @property
    def stage_layers(self) -> int:
        """Layers of the longest stage."""
        return math.ceil(self.model.layers / self.parallelism.pipeline)

    @property
    def stage_share(self) -> float:
        """Share of the layers that the longest stage holds."""
        return self.stage_layers / self.model.layers

    def first(self, rank: int) -> bool:
        """Return whether a core is the first of its replica.

        Args:
            rank: Number of the core in its copy.
        """
        return rank % (self.parallelism.tensor * self.parallelism.pipeline) == 0

    def stage(self, rank: int) -> int:
        """Return the pipeline stage of a core.

        Args:
            rank: Number of the core in its copy.
        """
        return rank // self.parallelism.tensor % self.parallelism.pipeline


def usable_bytes_per_core(accelerator: Accelerator) -> float:
    """Return the memory of a core that the server may fill, in bytes.

    Args:
        accelerator: The chip.
    """
    share = 1.0 if accelerator.kind == "neuron" else GPU_MEMORY_SHARE
    return accelerator.memory_bytes_per_core * share


def cache_bytes_per_core(model: ModelSpec, parallelism: Parallelism, tokens: int) -> float:
    """Return what one sequence keeps on one core, in bytes.

    Heads are copied where cores outnumber them; the latent vector of multi-head latent attention serves all
    heads, so that every core keeps it whole, as it does the keys of a sparse attention's indexer; windows cap
    what is kept and the state of linear attention is constant.

    Args:
        model: The model.
        parallelism: How the copy is split.
        tokens: Length of the sequence.
    """
    stage = math.ceil(model.layers / parallelism.pipeline) / model.layers
    elements = sum(cache_elements(group, parallelism.tensor, tokens) for group in model.attention)
    return elements * model.dtype_bytes * stage


def cache_elements(group: AttentionGroup, tensor: int, tokens: int) -> float:
    """Return the elements that the layers of a group keep of one sequence on one core.

    Args:
        group: The layers.
        tensor: Cores that share each layer.
        tokens: Length of the sequence.
    """
    heads = math.ceil(group.kv_heads / tensor)
    if group.kind == "linear":
        return group.layers * (heads * group.key_dim * group.value_dim + group.tail_elements / tensor)
    kept = tokens if group.window is None else min(tokens, group.window)
    return group.layers * (heads * (group.key_dim + group.value_dim) + group.index_dim) * kept


def layer_weights(split: Split) -> float:
    """Return one core's share of the layers, in bytes; vectors, routers, latent down-projections are whole.

    Args:
        split: The model on its cores.
    """
    model = split.model
    converted = quantized_parts(model.quantization, sparse=model.experts > 0) if model.quantization else ()
    counted = held = 0.0
    listed = 0
    for item in model.projections:
        narrow = item.part in converted
        size = item.parameters * (QUANTIZED_BYTES[model.quantization] if narrow else model.dtype_bytes)
        counted += size
        held += size * _share(item, split)
        listed += item.parameters
    vectors = (model.parameters - model.embedding_parameters - listed) * model.dtype_bytes
    # a checkpoint may convert more or less than its format's default: its own size is what counts
    scale = (model.weight_bytes - model.embedding_bytes) / (counted + vectors)
    return (held + vectors) * scale * split.stage_share


def _share(item: Projection, split: Split) -> float:
    model, degrees = split.model, split.parallelism
    if item.part == "router" or item.name in WHOLE_NAMES:
        return 1.0
    if item.part == "experts":
        held = math.ceil(model.experts / degrees.expert) / model.experts
        return held * min(1.0, degrees.expert / degrees.tensor)
    if item.name in KV_NAMES:
        return math.ceil(model.kv_heads / degrees.tensor) / model.kv_heads
    if item.name in QUERY_NAMES:
        return math.ceil(model.attention_heads / degrees.tensor) / model.attention_heads
    return 1 / degrees.tensor


def embedding_weights(split: Split, rank: int) -> float:
    """Return what one core holds of the embeddings, in bytes; optimum-neuron's first core holds them whole.

    Args:
        split: The model on its cores.
        rank: Number of the core in its copy.
    """
    model, degrees = split.model, split.parallelism
    output = model.vocab_size * model.hidden_size * model.dtype_bytes
    entry = model.embedding_bytes - (0 if model.tied_embeddings else output)
    if split.layout == "optimum" and split.first(rank):
        return entry + (0 if model.tied_embeddings or degrees.pipeline > 1 else output)
    held = entry if split.stage(rank) == 0 else 0
    if split.stage(rank) == degrees.pipeline - 1 and (not model.tied_embeddings or degrees.pipeline > 1):
        held += output
    return held / degrees.tensor


def working_bytes(split: Split, tokens: int) -> float:
    """Return the activations of a graph that handles some tokens at a time, in bytes of one core.

    Args:
        split: The model on its cores.
        tokens: Tokens of all prompts together.
    """
    model, tensor = split.model, split.parallelism.tensor
    hidden = HIDDEN_BUFFERS * tokens * model.hidden_size * (1 + model.experts_per_token)
    widest = max((item.outputs for item in model.projections if item.part in ("dense", "shared")), default=0)
    dense = 2 * tokens * widest / tensor
    return (hidden + dense) * model.dtype_bytes


def neuron_scratch_bytes(split: Split, *, prompts: int, context_tokens: int) -> float:
    """Return the pages that the largest graph's working set takes, in bytes: a prefill of the whole context.

    Args:
        split: The model on its cores.
        prompts: Prompts that one prefill handles.
        context_tokens: Tokens of each.
    """
    heads = math.ceil(split.model.attention_heads / split.parallelism.tensor)
    # one prompt's scores at a time; beyond the flash kernel's threshold they no longer grow
    scores = heads * min(context_tokens, FLASH_TOKENS) ** 2 * SCORE_BYTES
    need = scores + working_bytes(split, prompts * context_tokens)
    return SCRATCH_PAGE_BYTES * max(1, math.ceil(need / SCRATCH_PAGE_BYTES))


def gpu_scratch_bytes(split: Split) -> float:
    """Return what vLLM keeps free of a GPU for everything but weights and cache, in bytes.

    Args:
        split: The model on its GPUs.
    """
    chip = split.accelerator
    large = chip.memory_gib >= LARGE_GPU_GIB and not chip.name.startswith("A100")
    return GPU_BASE_BYTES + working_bytes(split, GPU_STEP_TOKENS[large])
