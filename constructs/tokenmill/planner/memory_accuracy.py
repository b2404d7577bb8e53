"""Scores the memory model against published facts: what a core holds, the share in use, fit or no fit."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image_of
from tokenmill.core.instances import InstanceType, known_instances
from tokenmill.core.model_catalog import known_model
from tokenmill.core.workload import Parallelism
from tokenmill.planner.memory import host_memory_mib
from tokenmill.planner.parallel_memory import RankMemory, memory_per_rank

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenmill.core.model_spec import ModelSpec

COLUMNS = ("model", "instance_type", "tp_degree", "batch_size", "seq_len", "dtype", "fact", "value", "unit")
MIB = 1024**2
UNITS = {"mb": 1.0, "mib": 1.0, "gb": 1024.0, "gib": 1024.0}
"""MiB of a unit. Sources on Neuron print binary units with decimal names: a core's 16 GiB as 16,384 MB, 2**31
bytes of KV cache as 2,048 MB, and the 24 GiB of a logical core as 24 GB."""
TRUE = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
DTYPES = {
    "bf16": "",
    "bfloat16": "",
    "fp16": "",
    "float16": "",
    "fp8": "fp8",
    "int8": "int8",
    "int4": "int4",
    "mxfp4": "mxfp4",
    "nvfp4": "nvfp4",
}
PARTS = {
    r"tensors": ("weights", "kv_cache"),
    r"kv": ("kv_cache",),
    r"weights|checkpoint": ("weights",),
    r"scratch": ("scratch",),
    r"collective": ("collectives",),
    r"dma": ("dma_rings",),
    r"code|neff": ("program",),
    r"other": ("other",),
    r"total": ("total",),
}
"""What a fact's words mean, first match first; "tensors" stands before the parts that it names."""
RANK = re.compile(r"\branks?\s+(\d+)(?:\s*-\s*\d+)?\s*:", re.IGNORECASE)
NO_BATCH_NEEDED = ("weights",)
STATIC_SOURCE = "neuronx-distributed-inference"
"""Ports in that repository are run by their own loop over a static batch, unless the row names a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreFact:
    """One measured figure of a core, and the prediction.

    Args:
        model: The model.
        instance_type: Where it ran.
        fact: What was measured.
        unit: The row's unit, such as "MB (sysfs)", "GB" or "%".
        measured: The published figure.
        predicted: The model's, in the same unit.
        source: Where the figure stands.
    """

    model: str
    instance_type: str
    fact: str
    unit: str
    measured: float
    predicted: float
    source: str

    @property
    def ape_percent(self) -> float:
        """Absolute error, in percent of the measured figure."""
        return abs(self.predicted - self.measured) / self.measured * 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FitFact:
    """One statement that something fits or does not, and the prediction.

    Args:
        model: The model.
        instance_type: Where.
        fact: What was stated.
        measured: Whether it fitted.
        predicted: Whether the model says so.
        needed_gib: Memory of the fullest core, or of the host, in GiB.
        available_gib: What there is of it.
        assumed: What the row does not state and was taken as least.
        source: Where the statement stands.
    """

    model: str
    instance_type: str
    fact: str
    measured: bool
    predicted: bool
    needed_gib: float
    available_gib: float
    assumed: tuple[str, ...]
    source: str

    @property
    def right(self) -> bool:
        """Whether the prediction holds."""
        return self.measured == self.predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A row that was not scored.

    Args:
        row: Its number, from 1.
        fact: What it states.
        reason: Why.
    """

    row: int
    fact: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAccuracy:
    """The score of a file.

    Args:
        per_core: Figures with their errors.
        fit: Statements with what was predicted.
        skipped: Rows that lack the inputs.
    """

    per_core: tuple[CoreFact, ...]
    fit: tuple[FitFact, ...]
    skipped: tuple[Skipped, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the score as JSON-safe values."""
        errors = [item.ape_percent for item in self.per_core]
        return {
            "schema": 1,
            "per_core": [_rounded(item, "ape_percent") for item in self.per_core],
            "fit": [_rounded(item, "right") for item in self.fit],
            "summary": {
                "per_core_rows": len(errors),
                "per_core_mape": round(sum(errors) / len(errors), 2) if errors else None,
                "per_core_max_ape": round(max(errors), 2) if errors else None,
                "per_core_within_5_percent": sum(error <= 5 for error in errors),
                "fit_rows": len(self.fit),
                "fit_right": sum(item.right for item in self.fit),
                "skipped": len(self.skipped),
            },
            "skipped": [_rounded(item) for item in self.skipped],
        }


def _rounded(item: CoreFact | FitFact | Skipped, *derived: str) -> dict[str, Any]:
    names = [*type(item).__dataclass_fields__, *derived]
    values = {name: getattr(item, name) for name in names}
    return {
        name: round(value, 2)
        if isinstance(value, float)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in values.items()
    }


def read_facts(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file of facts.

    Args:
        path: A CSV file with a header.

    Raises:
        TokenmillError: The file is missing, not text, not CSV or empty.
    """
    where = f"file of memory facts {path}"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except FileNotFoundError:
        raise TokenmillError(f"{where} does not exist") from None
    except IsADirectoryError:
        raise TokenmillError(f"{where} is a folder; name the CSV file in it") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TokenmillError(f"{where} is not CSV in UTF-8 ({error}); give one with a header") from None
    if not rows:
        raise TokenmillError(f"{where} has no rows; its columns must be {', '.join(COLUMNS)}")
    return rows


def score_memory(rows: Sequence[dict[str, str]]) -> MemoryAccuracy:
    """Return how far the memory model is from published facts.

    Args:
        rows: Texts by column: model, instance_type, tp_degree, batch_size, seq_len, dtype, fact, value, unit;
            hf_id, source, notes and software are read where they stand.

    Raises:
        TokenmillError: There are no rows, or a column is missing.
    """
    if not rows:
        raise TokenmillError(f"no rows to score; the columns are {', '.join(COLUMNS)}")
    missing = [name for name in COLUMNS if name not in rows[0]]
    if missing:
        raise TokenmillError(
            f"missing {'column' if len(missing) == 1 else 'columns'} {', '.join(missing)}; "
            f"needed: {', '.join(COLUMNS)}"
        )
    per_core: list[CoreFact] = []
    fit: list[FitFact] = []
    skipped: list[Skipped] = []
    for number, row in enumerate(rows, start=1):
        # csv.DictReader gives None for the columns that a short line lacks
        texts = {name: text.strip() for name, text in row.items() if isinstance(text, str)}
        try:
            found = _score(_Row({name: "" for name in COLUMNS} | texts))
        except _Unscored as error:
            skipped.append(Skipped(row=number, fact=texts.get("fact", ""), reason=str(error)))
            continue
        if isinstance(found, CoreFact):
            per_core.append(found)
        else:
            fit.append(found)
    return MemoryAccuracy(per_core=tuple(per_core), fit=tuple(fit), skipped=tuple(skipped))


class _Unscored(Exception):
    """A row lacks what scoring it takes; the message says what."""


class _Row:
    """The inputs of one row; what is missing or unknown is said by name."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.fact = texts["fact"]
        self.unit = texts["unit"].split("(")[0].strip().lower()
        self.stored = self._model()
        dtype = texts["dtype"].lower()
        if dtype and dtype not in DTYPES:
            raise _Unscored(f"unknown dtype {dtype!r}")
        self.model = self.stored.with_quantization(DTYPES[dtype]) if dtype else self.stored
        self.instance = self._instance()
        self.assumed: tuple[str, ...] = ()

    def _model(self) -> ModelSpec:
        for name in (self.texts["model"], self.texts.get("hf_id", "")):
            found = known_model(name) if name else None
            if found is not None:
                return found
        raise _Unscored(f"unknown model {self.texts['model']!r}")

    def _instance(self) -> InstanceType:
        name = self.texts["instance_type"]
        found = known_instances().get(name if name.startswith("ml.") else f"ml.{name}")
        if found is None:
            raise _Unscored(f"unknown instance type {name!r}")
        return found

    def count(self, column: str, least: int | None = None) -> int:
        """Return a whole number above 0; an absent one is what is given for it, if anything."""
        text = self.texts[column]
        if not text and least is not None:
            self.assumed = (*self.assumed, f"{column} {least}")
            return least
        if not text.isdecimal() or int(text) < 1:
            raise _Unscored(f"{column} is {text!r}, not a whole number above 0" if text else f"no {column}")
        return int(text)

    def ranks(self, least: int | None = None, *, all_cores: bool = False) -> tuple[RankMemory, ...]:
        """Return what each core holds; a degree that is absent may be taken as all cores."""
        cores = self.instance.cores
        tensor = self.count("tp_degree", cores if all_cores else None)
        if tensor > cores:
            raise _Unscored(f"tp_degree {tensor} is more than the {cores} cores of {self.instance.name}")
        sequences = self.count("batch_size", least)
        return memory_per_rank(
            self.model,
            self.instance.accelerator,
            Parallelism(tensor=tensor),
            sequences=sequences,
            context_tokens=self.count("seq_len", least),
            prefill_sequences=sequences if self.static else 1,
        )

    @property
    def static(self) -> bool:
        """Whether a prefill took the whole batch: run without a server."""
        told = " ".join(self.texts.get(name, "") for name in ("software", "notes", "kind", "fact"))
        return STATIC_SOURCE in self.texts.get("source", "") and "vllm" not in told.lower()

    @property
    def source(self) -> str:
        return self.texts.get("source", "")


def _score(row: _Row) -> CoreFact | FitFact:
    if row.unit == "bool":
        return _fit(row)
    value = _number(row.texts["value"])
    if row.unit == "%":
        if "utili" not in row.fact.lower():
            raise _Unscored(f"unknown percentage {row.fact!r}")
        ranks = row.ranks()
        share = sum(rank.total for rank in ranks) / sum(rank.available for rank in ranks) * 100
        return _core(row, value, share)
    if row.unit not in UNITS:
        raise _Unscored(f"unknown unit {row.texts['unit']!r}")
    return _core(row, value, _bytes(row) / MIB / UNITS[row.unit])


def _core(row: _Row, measured: float, predicted: float) -> CoreFact:
    return CoreFact(
        model=row.texts["model"],
        instance_type=row.instance.name,
        fact=row.fact,
        unit=row.texts["unit"],
        measured=measured,
        predicted=predicted,
        source=row.source,
    )


def _number(text: str) -> float:
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise _Unscored(f"value is {text!r}, not a number above 0")
    return value


def _bytes(row: _Row) -> float:
    stated = RANK.search(row.fact)
    words = row.fact[stated.end() :] if stated else row.fact
    parts = next((names for word, names in PARTS.items() if re.search(word, words, re.IGNORECASE)), None)
    if parts is None:
        raise _Unscored(f"unknown figure {row.fact!r}")
    ranks = row.ranks(least=1 if parts == NO_BATCH_NEEDED else None)
    # a figure "per core" without a rank is that of the many, not of a first core that differs
    number = int(stated[1]) if stated else len(ranks) - 1
    if number >= len(ranks):
        raise _Unscored(f"rank {number} of {len(ranks)} cores")
    return math.fsum(getattr(ranks[number], name) for name in parts)


def _fit(row: _Row) -> FitFact:
    fact = row.fact.lower()
    value = row.texts["value"].lower()
    if "fit" not in fact or value not in TRUE:
        raise _Unscored(f"unknown statement {row.fact!r} = {row.texts['value']!r}")
    if re.search(r"\bhost\b|shard", fact):
        sharded = bool(re.search(r"pre-?shard", fact)) and "without" not in fact
        image = image_of(row.instance.accelerator.name)
        needed = host_memory_mib(row.model, image, stored=row.stored, sharded=sharded) * MIB
        available: float = row.instance.host_room_mib * MIB
    else:
        fullest = max(row.ranks(least=1, all_cores=True), key=lambda rank: rank.total)
        needed, available = math.ceil(fullest.total), fullest.available
    return FitFact(
        model=row.texts["model"],
        instance_type=row.instance.name,
        fact=row.fact,
        measured=TRUE[value],
        predicted=needed <= available,
        needed_gib=needed / 1024**3,
        available_gib=available / 1024**3,
        assumed=row.assumed,
        source=row.source,
    )
