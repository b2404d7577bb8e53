"""Fit the timing of decode steps and of first tokens on NeuronCores: factors, shrunken effects, intervals.

Every configuration counts by the square root of its rows, since charts give seven prompt lengths of each.
Errors are those of rows whose whole configuration (or shape) was left out.
"""

from __future__ import annotations

import collections
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tools.fitting.crossval import HeldOut, Method, Sample, held_out, interval
from tools.fitting.minimise import Recipe, fitted

from tokenmill.planner.measurements import CONFIGURATION, deployment_of, wanted
from tokenmill.planner.performance import neuron
from tokenmill.planner.performance.fitted import stack
from tokenmill.planner.performance.neuron_columns import TEXTS, NeuronDeployment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Row = Sample[NeuronDeployment]
Found = HeldOut[NeuronDeployment]
DECODE_RIDGE = {"software": 6.0, "release": 1.0, "shape": 10.0, "shape cores software": 3.0}
DECODE_STRENGTH = 2.0
PREFILL_RIDGE = {"dense software": 10.0, "experts": 6.0, "shape": 10.0, "shape cores software": 3.0}
PREFILL_STRENGTH = 10.0
DECODE_PRIORS = {
    "layers": 2.0,
    "ring": 2.0,
    "paired_layers": 2.0,
    "weight_read": 1.3,
    "kv_read": 2.0,
    "layer_sequences": 3.0,
    "moe_layers": 2.0,
    "moe_dispatch": 5.0,
    "context_layers": 0.5,
}
PREFILL_PRIORS = {
    "layers": 10.0,
    "paired_layers": 2.0,
    "weight_read": 1.0,
    "arithmetic": 2.0,
    "attention": 2.0,
    "exchange": 2.0,
}
"""Memory and arithmetic at half of peak to peak, launches of some 20 us a layer; with strengths and ridges,
chosen by leaving out configurations and shapes, so that those errors are a little optimistic."""
DOMAIN = ("sequences", "context_tokens", "prompt_tokens")
FLAGS = ("shape", "software", "shape cores software", "paired", "experts", "tensor", *DOMAIN)
SCHEMES: dict[str, Callable[[Row], str]] = {
    "configuration": lambda row: row.configuration,
    "shape": lambda row: row.deployment.shape,
    "software": lambda row: row.deployment.software,
    "shape cores software": lambda row: row.levels["shape cores software"],
    "tensor": lambda row: f"{row.deployment.tensor}",
}


BLOCKS = "blocks of configurations"
BLOCK_FOLDS = 5
BLOCK_SEEDS = (11, 12, 13)


@dataclass(frozen=True)
class Task:
    """What is fitted.

    Args:
        metric: "itl" or "ttft".
        terms: Of the formula.
        predict: Milliseconds of many deployments.
        recipe: Priors and ridges.
    """

    metric: str
    terms: Callable[[NeuronDeployment], dict[str, Any]]
    predict: Callable[[NeuronDeployment, Mapping[str, Any]], Any]
    recipe: Recipe

    @property
    def method(self) -> Method[NeuronDeployment]:
        """How this task is fitted and predicts."""
        return Method(
            fit=lambda samples: fit_once(self, samples),
            predict=lambda rows, document: self.predict(stack(rows, TEXTS), document),
            unmeasured=neuron.unmeasured,
        )


DECODE = Task(
    "itl",
    neuron.decode_terms,
    neuron.decode_ms,
    Recipe(DECODE_PRIORS, DECODE_STRENGTH, DECODE_RIDGE),
)
PREFILL = Task(
    "ttft",
    neuron.prefill_terms,
    neuron.prefill_ms,
    Recipe(PREFILL_PRIORS, PREFILL_STRENGTH, PREFILL_RIDGE),
)


def read_samples(task: Task, rows: Sequence[Mapping[str, str]]) -> list[Row]:
    """Return the rows that count for a task, each id once.

    Args:
        task: What is fitted.
        rows: Texts by column.
    """
    samples: dict[str, Row] = {}
    for row in rows:
        if not wanted(task.metric, row) or row["id"] in samples:
            continue
        deployment, measured = deployment_of(task.metric, row)
        samples[row["id"]] = Sample(
            id=row["id"],
            deployment=deployment,
            levels=neuron.levels_of(deployment),
            configuration="|".join(row[name] for name in CONFIGURATION),
            model=row["model"],
            source=row["source"].split(":")[0],
            measured_ms=measured,
        )
    return list(samples.values())


def fit_once(task: Task, samples: Sequence[Row]) -> dict[str, Any]:
    """Return the document of one fit, with an interval of no width.

    Args:
        task: What is fitted.
        samples: To fit on.
    """
    columns = stack((sample.deployment for sample in samples), TEXTS)
    count = collections.Counter(sample.configuration for sample in samples)
    weights = np.array([count[sample.configuration] ** -0.5 for sample in samples])
    return {
        **fitted(
            task.terms(columns),
            [sample.levels for sample in samples],
            np.array([sample.measured_ms for sample in samples]),
            weights / weights.mean(),
            task.recipe,
        ),
        "degrees": sorted({int(sample.deployment.tensor) for sample in samples}),
        "domain": {name: [float(f(getattr(columns, name))) for f in (np.min, np.max)] for name in DOMAIN},
        "interval": {"level": 0.8, "half_width": 0.0, "widening": dict.fromkeys(FLAGS, 0.0)},
    }


def left_out(task: Task, samples: Sequence[Row]) -> dict[str, list[Found]]:
    """Return predictions of rows whose configuration, shape, software and so on was left out.

    Args:
        task: What is fitted.
        samples: All rows.
    """
    found = {}
    for scheme, group in SCHEMES.items():
        print(f"neuron {task.metric}: leaving out each {scheme}", file=sys.stderr)
        found[scheme] = held_out(task.method, samples, group)
    # neighbours of an unseen configuration are unseen too, more often than leaving out one at a time has it
    found[BLOCKS] = [
        item
        for seed in BLOCK_SEEDS
        for item in held_out(task.method, samples, SCHEMES["configuration"], BLOCK_FOLDS, seed)
    ]
    return found


def fit(task: Task, samples: Sequence[Row], found: Mapping[str, list[Found]]) -> dict[str, Any]:
    """Return the document of a task: factors, effects, interval, and what it was fitted on.

    Args:
        task: What is fitted.
        samples: All rows.
        found: Their predictions without them, by scheme.
    """
    document = fit_once(task, samples)
    document["interval"] = interval(task.method, found[BLOCKS], found, FLAGS)
    return document | {
        "rows": len(samples),
        "configurations": len({sample.configuration for sample in samples}),
        "sources": sorted({sample.source for sample in samples}),
    }
