"""Folders and times of the container, each with a variable that tests and users may set."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokenmill_runtime.serving_image.flags import BadEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVER_COMMAND: Final = "vllm serve"
# "How Amazon SageMaker Runs Your Training Image": SIGKILL follows SIGTERM after 120 s; hosting gives 30 s
# ("Use Your Own Inference Code with Hosting Services").
STOP_SECONDS: Final = 25.0
CACHE_ROOT: Final = "/tmp/tokenmill/vllm-cache"
ARTIFACT_KEY: Final = "TOKENMILL_ARTIFACT_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where things are in the container.

    ``port`` is where SageMaker calls and ``server_port`` where vLLM listens; ``model_folder`` and
    ``input_folder`` are SageMaker's for a model and for a training job's weights, ``failure_file`` is where a
    training job says why it failed; ``cache_root`` becomes VLLM_CACHE_ROOT, under which vLLM-Neuron keeps
    what it compiled (AWS Neuron documentation: "Compilation Cache"); ``artifact_key`` names the compiled
    artifact that is served or made, or is empty.
    """

    command: tuple[str, ...]
    port: int
    server_port: int
    model_folder: Path
    input_folder: Path
    failure_file: Path
    cache_root: Path
    artifact_key: str
    stop_seconds: float

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """The settings of an environment.

        Raises BadEnvironment for a value that is not of its form.
        """
        command = tuple(shlex.split(environment.get("TOKENMILL_SERVER_COMMAND", SERVER_COMMAND)))
        if not command:
            raise BadEnvironment("TOKENMILL_SERVER_COMMAND is empty; leave it out for 'vllm serve'")
        root = environment.get("TOKENMILL_ML_ROOT", "/opt/ml")
        return cls(
            command=command,
            port=_number(environment, "SAGEMAKER_BIND_TO_PORT", 8080),
            server_port=_number(environment, "TOKENMILL_SERVER_PORT", 8000),
            model_folder=Path(root, "model"),
            input_folder=Path(root, "input", "data", "model"),
            failure_file=Path(root, "output", "failure"),
            cache_root=Path(environment.get("VLLM_CACHE_ROOT", CACHE_ROOT)),
            artifact_key=environment.get(ARTIFACT_KEY, ""),
            stop_seconds=float(_number(environment, "TOKENMILL_STOP_SECONDS", int(STOP_SECONDS))),
        )


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise BadEnvironment(f"{name} is {text!r}; it must be a whole number from 1 to 65535")
    return int(text)
