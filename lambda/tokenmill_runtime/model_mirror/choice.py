"""Which files of a repository a serving container needs: one format of the weights, and all that is small."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokenmill_runtime.model_mirror.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GIT_FILES: Final = (".gitattributes", ".gitignore")
SAFETENSORS: Final = ("*.safetensors",)
SHARDED: Final = ("model.safetensors", "model-*.safetensors")
# Mistral's repositories hold their weights twice: in its own naming and in Transformers'.
CONSOLIDATED: Final = ("consolidated*.safetensors", "consolidated*.safetensors.index.json")
PICKLES: Final = ("pytorch_model*.bin", "model*.bin", "consolidated*.pth", "*.pth")
PICKLE_INDEXES: Final = ("pytorch_model*.bin.index.json", "model*.bin.index.json")
# Written beside weights by a trainer, read by no server.
TRAINING: Final = ("training_args.bin", "optimizer*.pt", "scheduler*.pt", "rng_state*.pth")
OTHER_FORMATS: Final = (
    "*.h5",
    "*.h5.index.json",
    "*.msgpack",
    "*.msgpack.index.json",
    "*.ot",
    "*.onnx",
    "*.onnx_data*",
    "*.tflite",
    "*.gguf",
    "*.ckpt",
)
# Folders of further copies of the same weights: Llama's and gpt-oss's "original", gpt-oss's "metal".
COPIES: Final = ("coreml", "gguf", "metal", "onnx", "openvino", "original")
# An export of optimum-neuron: its graphs and shards are all needed.
NEURON_EXPORT: Final = "neuron_config.json"


@dataclass(frozen=True)
class RemoteFile:
    """A file of the repository: path, size in bytes, and the hash that the Hub has of it.

    Large files have the SHA-256 of their content, others git's SHA-1 of a header and the content.
    """

    path: str
    size: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class Choice:
    """The files to copy, and those left out with the reason."""

    kept: tuple[RemoteFile, ...]
    left_out: tuple[tuple[str, str], ...]
    pickled: bool


def choose(files: Iterable[RemoteFile]) -> Choice:
    """Return the files that serving needs.

    Raises Failure where the repository has no weights that are known.
    """
    every = [file for file in files if file.path not in GIT_FILES]
    paths = [file.path for file in every]
    if any(_name(path) == NEURON_EXPORT for path in paths):
        return Choice(tuple(every), (), pickled=False)
    drop, pickled = _rule(paths)
    reasons = {path: drop(path) for path in paths}
    return Choice(
        tuple(file for file in every if not reasons[file.path]),
        tuple((path, reason) for path, reason in reasons.items() if reason),
        pickled,
    )


def _rule(paths: list[str]) -> tuple[Callable[[str], str], bool]:
    root = [path for path in paths if "/" not in path]
    if any(_is(path, SAFETENSORS) for path in root):
        twice = CONSOLIDATED if any(_is(path, SHARDED) for path in root) else ()
        others = (*PICKLES, *PICKLE_INDEXES, *TRAINING, *OTHER_FORMATS, *twice)
        return _dropping(others, "the same weights are there as safetensors"), False
    if any(_is(path, PICKLES) for path in root):
        return _dropping((*TRAINING, *OTHER_FORMATS), "the same weights are there for PyTorch"), True
    if any(_is(path, (*SAFETENSORS, *PICKLES, *OTHER_FORMATS)) for path in paths):
        return (lambda _: ""), any(_is(path, PICKLES) for path in paths)
    raise Failure("the repository has no weights in a format that is known, such as safetensors")


def _dropping(patterns: tuple[str, ...], reason: str) -> Callable[[str], str]:
    def drop(path: str) -> str:
        folder, _, rest = path.partition("/")
        if rest and folder in COPIES:
            return reason
        return reason if not rest and _is(path, patterns) else ""

    return drop


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _is(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(_name(path), pattern) for pattern in patterns)
