"""Weight formats: what a quantization_config converts, what it keeps, and the bytes that one weight takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_fields import Fields, shown
from tokenmill.core.model_modules import Rule, kept_rules, rules_of

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
FORMATS = ("fp8", "int8", "int4", "mxfp4", "nvfp4")
QUANTIZED_BYTES = {
    "fp8": 1 + 4 / (128 * 128),
    "int8": 1.0,
    "int4": (4 + (16 + 4) / 128) / 8,
    "mxfp4": (4 + 8 / 32) / 8,
    "nvfp4": (4 + 8 / 16) / 8,
}
"""Bytes a weight with its scales.

FP8: one float32 for each block of 128 x 128 (deepseek-ai/DeepSeek-V3, README_WEIGHTS.md, "FP8 Weight
Documentation"). INT8: one scale a row, less than 0.1 %. INT4: a float16 scale and a 4-bit zero point for each
group of 128, as AWQ and GPTQ checkpoints on the Hub mostly have it (assumed where a config names no group).
MXFP4: one 8-bit exponent (E8M0) for 32, NVFP4: one FP8 (E4M3) scale for 16; both, and the 128 of INT4, in
vllm-project/compressed-tensors@ac8e2ba, quantization/quant_scheme.py and compressors/mx_utils.py, after "OCP
Microscaling Formats (MX) Specification" 1.0 and, for NVFP4, NVIDIA's cuTile tutorial "Inference with
NVFP4/MXFP8". The one float32 for a whole NVFP4 tensor is left out."""
MXFP8_BYTES = 1 + 1 / 32
"""An FP8 weight with an 8-bit exponent for each 32 (the MXFP8 scheme of the same files)."""
SMALLEST_GROUP = 8
"""Fewer weights with a scale of their own would weigh more than plain ones."""
ALL_PARTS = frozenset({"attention", "dense", "experts", "shared"})


def quantized_parts(quantization: str, *, sparse: bool) -> frozenset[str]:
    """Return the parts of a model that a format converts unless a config says otherwise.

    Args:
        quantization: A key of QUANTIZED_BYTES.
        sparse: Whether the model has experts.
    """
    return frozenset({"experts"}) if quantization == "mxfp4" and sparse else ALL_PARTS


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """How a checkpoint stores the weights of its layers.

    Args:
        name: One of QUANTIZED_BYTES, or empty for plain weights.
        bytes_each: Bytes of a converted weight with its scales.
        parts: Parts of the model that are converted.
        rules: Modules that are stored otherwise; the first that matches a layer decides.
    """

    name: str = ""
    bytes_each: float = 0.0
    parts: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()

    def bytes_over(self, part: str, module: str, layers: Sequence[int], plain: int) -> float:
        """Return the bytes of one weight, summed over the layers that have its tensor.

        Args:
            part: Part of the model.
            module: Name of the tensor below its layer.
            layers: The layers that have it.
            plain: Bytes of a weight that is not converted.
        """
        if part not in ALL_PARTS:
            return len(layers) * plain
        total, left = 0.0, layers
        for rule in self.rules:
            if rule.matches(module):
                rest = rule.others(left)
                each = plain if rule.bytes_each is None else rule.bytes_each
                total, left = total + (len(left) - len(rest)) * each, rest
        return total + len(left) * (self.bytes_each if part in self.parts else plain)


def read_format(fields: Fields, *, sparse: bool) -> tuple[str, WeightFormat]:
    """Return the element type of a config, and how its weights are stored.

    Args:
        fields: The config.
        sparse: Whether the model has experts.

    Raises:
        TokenmillError: An unknown type or format, or a format without what it needs.
    """
    quantization = fields.object("quantization_config")
    weights = WeightFormat() if quantization is None else _weights(quantization, sparse)
    dtype = fields.text("torch_dtype") or fields.text("dtype")
    if not dtype and not weights.name:
        raise TokenmillError(
            f"missing field torch_dtype in {fields.where}; add the type of the weights, such as bfloat16"
        )
    dtype = dtype.removeprefix("torch.") or "bfloat16"
    if dtype not in DTYPE_BYTES:
        name = fields.name("torch_dtype", "dtype")
        raise TokenmillError(
            f"{name} {shown(dtype)} in {fields.where} is not one of {', '.join(DTYPE_BYTES)}"
        )
    return dtype, weights


def _weights(fields: Fields, sparse: bool) -> WeightFormat:
    method = fields.text("quant_method") or ("modelopt" if fields.get("quant_algo") else "")
    if method not in METHODS:
        raise TokenmillError(
            f"quant_method {shown(method)} in {fields.where} is not supported; use {', '.join(METHODS)} "
            "or plain weights"
        )
    if fields.get("quant_algo") == "MIXED_PRECISION":
        return _mixed(fields)
    name, bytes_each = METHODS[method](fields)
    if not name:
        return WeightFormat()
    rules = kept_rules(fields)
    parts = ALL_PARTS if rules else quantized_parts(name, sparse=sparse)
    return WeightFormat(name=name, bytes_each=bytes_each, parts=parts, rules=rules)


def _grouped(fields: Fields, name: str, bits: int, scale_bits: float) -> tuple[str, float]:
    """Bytes of a format with one scale for each group; a group of -1 is a whole row."""
    group = fields.get("group_size", "q_group_size")
    if group in (None, -1):
        return name, bits / 8
    size = fields.checked(fields.name("group_size", "q_group_size"), group, least=SMALLEST_GROUP)
    return name, (bits + scale_bits / size) / 8


def _fp8(fields: Fields) -> tuple[str, float]:
    block = fields.items("weight_block_size")
    if not block:
        return "fp8", 1.0
    elements = 1
    for side in block[:2]:
        elements *= fields.checked("an entry of weight_block_size", side)
    if elements < SMALLEST_GROUP:
        raise TokenmillError(
            f"weight_block_size in {fields.where} must hold at least {SMALLEST_GROUP} weights, got {elements}"
        )
    return "fp8", 1 + 4 / elements


def _mxfp4(fields: Fields) -> tuple[str, float]:
    return "mxfp4", QUANTIZED_BYTES["mxfp4"]


def _int(fields: Fields, bits: int, *, zero_points: bool = True) -> tuple[str, float]:
    if bits not in (4, 8):
        raise TokenmillError(f"bits in {fields.where} must be 4 or 8, got {bits}")
    return _grouped(fields, f"int{bits}", bits, 16 + (bits if zero_points else 0))


def _gptq(fields: Fields) -> tuple[str, float]:
    return _int(fields, fields.number("bits", "w_bit", default=4))


def _bitsandbytes(fields: Fields) -> tuple[str, float]:
    if fields.flag("load_in_8bit", False) or fields.flag("_load_in_8bit", False):
        return "int8", 1.0
    # one float32 for 64 weights, or 8 bits for 64 and a float32 for 256 of these (QLoRA, arXiv 2305.14314)
    scale = 8 + 32 / 256 if fields.flag("bnb_4bit_use_double_quant") else 32
    return "int4", (4 + scale / 64) / 8


def _compressed(fields: Fields) -> tuple[str, float]:
    groups = fields.object("config_groups")
    for name in groups.config if groups else ():
        group = groups.object(name) if groups else None
        weights = group.object("weights") if group else None
        if weights is None:
            continue
        bits = weights.number("num_bits")
        if weights.text("type", "int") == "int":
            return _int(weights, bits, zero_points=not weights.flag("symmetric", True))
        if bits == 8:
            return "fp8", MXFP8_BYTES if weights.get("group_size") == 32 else 1.0
        size = weights.number("group_size", default=16)
        return ("mxfp4", QUANTIZED_BYTES["mxfp4"]) if size == 32 else ("nvfp4", QUANTIZED_BYTES["nvfp4"])
    return "", 0.0


ALGORITHMS = {
    "FP8": "fp8",
    "FP8_PB_WO": "fp8",
    "MXFP8": "fp8",
    "NVFP4": "nvfp4",
    "W4A16_NVFP4": "nvfp4",
    "MXFP4": "mxfp4",
    "W4A16_AWQ": "int4",
}
"""Names in `quant_algo` (NVIDIA TensorRT Model Optimizer) and the formats they store weights in."""


def _modelopt(fields: Fields) -> tuple[str, float]:
    return _algorithm(fields.get("quant_algo"), fields.where)


def _algorithm(name: object, where: str) -> tuple[str, float]:
    if not isinstance(name, str) or name not in ALGORITHMS:
        raise TokenmillError(
            f"quant_algo {shown(name)} in {where} is not supported; use {', '.join(ALGORITHMS)}"
        )
    return ALGORITHMS[name], MXFP8_BYTES if name == "MXFP8" else QUANTIZED_BYTES[ALGORITHMS[name]]


def _mixed(fields: Fields) -> WeightFormat:
    layers = fields.object("quantized_layers")
    if layers is None:
        raise TokenmillError(f"missing field quantized_layers in {fields.where}")
    entries: list[tuple[str, float | None]] = []
    names = set()
    for module, entry in layers.config.items():
        if not isinstance(entry, Mapping):
            raise TokenmillError(f"{shown(module)} in {layers.where} must be an object, got {shown(entry)}")
        name, bytes_each = _algorithm(entry.get("quant_algo"), layers.where)
        names.add(name)
        entries.append((module, bytes_each))
    name = next((name for name in ("nvfp4", "mxfp4", "int4", "fp8") if name in names), "")
    return WeightFormat(name=name, rules=rules_of(entries, fields.where))


METHODS: dict[str, Callable[[Fields], tuple[str, float]]] = {
    "awq": _gptq,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed,
    "fbgemm_fp8": _fp8,
    "fp8": _fp8,
    "gptq": _gptq,
    "modelopt": _modelopt,
    "mxfp4": _mxfp4,
}
