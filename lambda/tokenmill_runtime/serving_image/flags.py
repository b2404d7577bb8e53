"""The container's variables as flags of vLLM's server.

The rules are those of AWS's own vLLM container for SageMaker, so that one environment serves both (AWS Deep
Learning Containers: "vLLM Inference", "Configuration", and "Amazon SageMaker AI Deployment"):
``SM_VLLM_FOO_BAR=x`` is ``--foo-bar x``, ``true`` or an empty text a flag alone, ``false`` no flag; the model
is ``SM_VLLM_MODEL``, else what lies in /opt/ml/model, else ``HF_MODEL_ID``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FLAG_PREFIX: Final = "SM_VLLM_"
MODEL: Final = "SM_VLLM_MODEL"
HUB_MODEL: Final = "HF_MODEL_ID"
SERVED_NAME: Final = "SM_VLLM_SERVED_MODEL_NAME"
# SageMaker speaks to this program, not to the server, and its requests carry no key of vLLM.
OURS: Final = ("SM_VLLM_API_KEY", "SM_VLLM_HOST", "SM_VLLM_PORT")
MODEL_FILE: Final = "config.json"


class BadEnvironment(Exception):
    """The container's variables do not say what to serve; the text names the variable."""


def model_of(environment: Mapping[str, str], model_folder: Path) -> str:
    """The model that is to be served: a folder of the container or a name on the Hugging Face Hub.

    Raises BadEnvironment where no variable names one and the model folder holds none.
    """
    named = environment.get(MODEL, "")
    if named:
        return named
    if (model_folder / MODEL_FILE).is_file():
        return str(model_folder)
    hub = environment.get(HUB_MODEL, "")
    if hub:
        return hub
    raise BadEnvironment(
        f"{MODEL} is not set, {model_folder} holds no {MODEL_FILE} and {HUB_MODEL} is not set; set {MODEL}, "
        "or give the endpoint a model source"
    )


def server_flags(environment: Mapping[str, str], model: str) -> list[str]:
    """The server's arguments after its model, in the order of the variables' names.

    Raises BadEnvironment for a variable that this program decides itself.
    """
    taken = [name for name in OURS if name in environment]
    if taken:
        raise BadEnvironment(f"{', '.join(taken)} cannot be set: the program in this image decides it")
    flags = []
    for name in sorted(environment):
        value = environment[name]
        if not name.startswith(FLAG_PREFIX) or name == MODEL or value == "false":
            continue
        flags.append("--" + name.removeprefix(FLAG_PREFIX).lower().replace("_", "-"))
        if value not in ("", "true"):
            flags.append(value)
    hub = environment.get(HUB_MODEL, "")
    if hub and model.startswith("/") and SERVED_NAME not in environment:
        # A caller names the model, not the folder that it happens to lie in.
        flags += ["--served-model-name", hub]
    return flags
