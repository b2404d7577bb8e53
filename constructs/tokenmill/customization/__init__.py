"""Models of one's own on Amazon Bedrock: imported, fine-tuned, distilled, versioned, deployed on demand.

Names load when first used: most stacks need few of them, and each loads modules of aws_cdk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.customization.artifact import ArtifactVersion as ArtifactVersion
    from tokenmill.customization.artifact import ModelArtifact as ModelArtifact
    from tokenmill.customization.deployment import ImportedModel as ImportedModel
    from tokenmill.customization.deployment import ModelDeployment as ModelDeployment
    from tokenmill.customization.model_customization import ModelCustomization as ModelCustomization
    from tokenmill.customization.model_import import ModelImport as ModelImport
    from tokenmill.customization.recipes import Distillation as Distillation
    from tokenmill.customization.recipes import FineTuning as FineTuning
    from tokenmill.customization.recipes import TrainingData as TrainingData
    from tokenmill.customization.sources import ImportSource as ImportSource

_HOME = {
    "ArtifactVersion": "artifact",
    "Distillation": "recipes",
    "FineTuning": "recipes",
    "ImportSource": "sources",
    "ImportedModel": "deployment",
    "ModelArtifact": "artifact",
    "ModelCustomization": "model_customization",
    "ModelDeployment": "deployment",
    "ModelImport": "model_import",
    "TrainingData": "recipes",
}

__all__ = [
    "ArtifactVersion",
    "Distillation",
    "FineTuning",
    "ImportSource",
    "ImportedModel",
    "ModelArtifact",
    "ModelCustomization",
    "ModelDeployment",
    "ModelImport",
    "TrainingData",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill.customization' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tokenmill.customization.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
