"""The program in the serving image, run as SageMaker runs it, in front of a stand-in for vLLM's server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tokenmill_runtime.serving_image import entrypoint
from tokenmill_runtime.serving_image.flags import BadEnvironment, model_of, server_flags
from tokenmill_runtime.serving_image.proxy import route_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STAND_IN = Path(__file__).resolve().parents[1] / "support_vllm_stand_in.py"
PATIENCE = 60.0
KEY = "k" * 64


def eventually(check: Callable[[], Any]) -> Any:
    """What a check returns once it is true; fails after a minute."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE:.0f} s: {check}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Container:
    """The image's program with its folders under one root, as if they were /opt/ml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.model = folder / "ml" / "model"
        self.model.mkdir(parents=True)
        self.port, self.server_port = free_port(), free_port()
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, way: str, **variables: str) -> subprocess.Popen[str]:
        environment = {
            **{
                key: value for key, value in os.environ.items() if not key.startswith(("SM_", "HF_", "VLLM_"))
            },
            "STAND_IN": str(self.state),
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            "TOKENMILL_SERVER_PORT": str(self.server_port),
            "TOKENMILL_SERVER_COMMAND": f"{sys.executable} {STAND_IN}",
            "TOKENMILL_ML_ROOT": str(self.folder / "ml"),
            "TOKENMILL_STOP_SECONDS": "5",
            "VLLM_CACHE_ROOT": str(self.folder / "cache"),
            "SM_VLLM_MODEL": "Qwen/Qwen3-8B",
            **variables,
        }
        program = Path(entrypoint.__file__)
        process = subprocess.Popen(
            [sys.executable, str(program), way],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def serving(self, **variables: str) -> subprocess.Popen[str]:
        """The program once its /ping says that vLLM is healthy."""
        (self.state / "ready").touch()
        process = self.start("serve", **variables)
        eventually(lambda: self.ping() == 200 or process.poll() is not None)
        return process

    def ping(self) -> int:
        try:
            return self.ask("GET", "/ping")[0]
        except OSError:
            return 0

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, body=sent, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, json.loads(content) if content else {}

    def command(self) -> dict[str, Any]:
        return json.loads((self.state / "command.json").read_text())

    def end(self) -> None:
        # SIGTERM, because the program alone knows the server's process group.
        for process in self.processes:
            process.terminate()
            process.communicate(timeout=PATIENCE)

    @property
    def worker(self) -> int:
        return int((self.state / "worker").read_text())

    def alive(self) -> bool:
        """Whether the server's worker runs; a zombie that init has not reaped yet does not."""
        try:
            return Path(f"/proc/{self.worker}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    made = Container(tmp_path)
    try:
        yield made
    finally:
        made.end()


def weights(folder: Path) -> None:
    (folder / "layers").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "layers" / "one.safetensors").write_bytes(b"weights")


def compiled(container: Container) -> None:
    """Weights and a compiled artifact in the model folder, left by a real compile run."""
    weights(container.folder / "ml" / "input" / "data" / "model")
    (container.state / "ready").touch()
    done = container.start("train", TOKENMILL_ARTIFACT_KEY=KEY, SM_VLLM_MODEL="")
    assert done.wait(PATIENCE) == 0, done.communicate()
    for name in ("ready", "compiled", "worker", "terminated"):
        (container.state / name).unlink(missing_ok=True)
    for path in sorted((container.folder / "cache").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


def test_ping_is_200_only_when_the_server_is_healthy(container: Container) -> None:
    """A slow start answers 503, so that SageMaker keeps waiting and sends nothing."""
    container.start("serve")
    assert eventually(container.ping) == 503
    (container.state / "ready").touch()
    assert eventually(lambda: container.ping() == 200)
    (container.state / "ready").unlink()
    assert container.ping() == 503


def test_variables_become_flags(container: Container) -> None:
    """The server starts with the flags of AWS's own container rules, on loopback alone."""
    container.serving(
        SM_VLLM_MAX_MODEL_LEN="4096", SM_VLLM_ENABLE_PREFIX_CACHING="true", SM_VLLM_ENFORCE_EAGER="false"
    )
    assert container.command()["arguments"] == [
        "Qwen/Qwen3-8B", "--enable-prefix-caching", "--max-model-len", "4096",
        "--host", "127.0.0.1", "--port", str(container.server_port),
    ]  # fmt: skip
    assert container.command()["variables"]["VLLM_CACHE_ROOT"] == str(container.folder / "cache")


@pytest.mark.parametrize(
    ("body", "route"),
    [
        ({"messages": []}, "/v1/chat/completions"),
        ({"prompt": "a"}, "/v1/completions"),
        ({"input": "a"}, "/v1/embeddings"),
    ],
)
def test_an_invocation_goes_where_its_body_belongs(
    container: Container, body: dict[str, Any], route: str
) -> None:
    """SageMaker has one route and the server several; the body decides, headers pass through."""
    container.serving()
    status, answer = container.ask("POST", "/invocations", body, **{"X-Custom": "kept"})
    assert (status, answer) == (200, {"path": route, "body": body, "custom": "kept"})


def test_openai_routes_and_errors_of_the_server_pass_through(container: Container) -> None:
    """/v1/ is the server's own, and so is its status."""
    container.serving()
    assert container.ask("GET", "/v1/models") == (200, {"data": [{"id": "stand-in"}]})
    status, answer = container.ask("POST", "/v1/completions", {"prompt": "a", "wrong": True})
    assert (status, answer["path"]) == (422, "/v1/completions")


def test_a_stream_passes_chunk_by_chunk(container: Container) -> None:
    """The first chunk is out before the server has written the second."""
    container.serving()
    connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=PATIENCE)
    connection.request("POST", "/invocations", body=json.dumps({"messages": [], "stream": True}))
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    assert answer.read1() == b"data: one\n\n"
    (container.state / "more").touch()
    assert answer.read() == b"data: two\n\n"
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/invocations", b"{", 400, "not JSON"),
        ("POST", "/invocations", b"[]", 400, "neither messages, prompt nor input"),
        ("POST", "/elsewhere", b"{}", 404, "no route POST /elsewhere"),
        ("GET", "/elsewhere", None, 404, "no route GET /elsewhere"),
    ],
)
def test_fails_an_unknown_request_with_a_sentence(
    container: Container, method: str, path: str, body: bytes | None, status: int, words: str
) -> None:
    """What the server would not understand is refused before it reaches it."""
    container.serving()
    found, answer = container.ask(method, path, body)
    assert found == status
    assert words in answer["error"]["message"]


def test_a_request_before_the_server_listens_is_a_503(container: Container) -> None:
    """A caller can tell a container that is not ready from a wrong request."""
    process = container.start("serve", STAND_IN_MODE="", TOKENMILL_SERVER_COMMAND="sleep")
    # `sleep` refuses its arguments and ends; until that is seen, or ever, nothing answers 200.
    assert process.wait(PATIENCE) == 1
    assert "vllm ended with exit code 1" in process.communicate()[1]


def test_fails_when_the_server_dies(container: Container) -> None:
    """A dead server ends the container, so that SageMaker replaces it; nothing of it is left."""
    process = container.serving()
    with pytest.raises((OSError, http.client.HTTPException)):
        status, _ = container.ask("POST", "/v1/completions", {"prompt": "a", "crash": True})
        if status == 503:
            raise OSError("refused")
    assert process.wait(PATIENCE) == 1
    assert "error: vllm ended with exit code 3" in process.communicate()[1]
    assert eventually(lambda: not container.alive())


@pytest.mark.parametrize("mode", ["", "ignores the end"])
def test_sigterm_ends_the_server_and_its_workers(container: Container, mode: str) -> None:
    """The signal is forwarded; a server that does not heed it is killed with its workers."""
    process = container.serving(STAND_IN_MODE=mode, TOKENMILL_STOP_SECONDS="1")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert (container.state / "terminated").exists()
    assert eventually(lambda: not container.alive())
    assert "stopped by SIGTERM" in process.communicate()[0]


def test_a_compile_run_leaves_weights_graphs_and_a_manifest(container: Container) -> None:
    """What an endpoint needs lies in one folder, the lock files of the cache do not."""
    compiled(container)
    folder = container.model / "tokenmill-compiled"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (container.model / "layers" / "one.safetensors").read_bytes() == b"weights"
    assert manifest["key"] == KEY
    (entry,) = manifest["files"]
    assert entry["path"] == f"vllm-cache/neuron/compile_cache/{'a' * 32}/graph.neff"
    assert (folder / entry["path"]).stat().st_size == entry["bytes"] == len(b"compiled graph")
    assert container.command()["arguments"][0] == str(container.model)


def test_what_was_compiled_is_served_without_compiling(container: Container) -> None:
    """The graphs are in place before the server starts, and it may not compile others."""
    compiled(container)
    container.serving(TOKENMILL_ARTIFACT_KEY=KEY, SM_VLLM_MODEL="")
    assert container.ping() == 200
    assert not (container.state / "compiled").exists()
    assert container.command()["variables"]["VLLM_NEURON_DISABLE_WARMUP_COMPILE"] == "1"


def test_fails_to_serve_another_artifact_than_asked_for(container: Container) -> None:
    """A mismatch ends the container with both keys."""
    compiled(container)
    process = container.start("serve", TOKENMILL_ARTIFACT_KEY="other" * 12)
    assert process.wait(PATIENCE) == 2
    assert f"the compiled artifact is {KEY[:16]}, but otherotherothero" in process.communicate()[1]


def test_fails_to_serve_an_artifact_that_is_not_whole(container: Container) -> None:
    """A graph that is cut off would be compiled anew in silence, or crash later."""
    compiled(container)
    (graph,) = container.model.rglob("graph.neff")
    graph.write_bytes(b"cut")
    process = container.start("serve", TOKENMILL_ARTIFACT_KEY=KEY)
    assert process.wait(PATIENCE) == 2
    assert "is missing or not 14 bytes long; compile again" in process.communicate()[1]


def test_fails_to_serve_a_missing_artifact(container: Container) -> None:
    """Weights alone are not what the deployment was promised."""
    weights(container.model / "more")
    process = container.start("serve", TOKENMILL_ARTIFACT_KEY=KEY)
    assert process.wait(PATIENCE) == 2
    assert "holds no compiled artifact" in process.communicate()[1]


@pytest.mark.parametrize(
    ("variables", "words", "code"),
    [
        ({"TOKENMILL_ARTIFACT_KEY": ""}, "TOKENMILL_ARTIFACT_KEY is not set", 2),
        ({"STAND_IN_MODE": "compiles nothing"}, "left nothing in", 2),
        ({"VLLM_NEURON_DISABLE_WARMUP_COMPILE": "1"}, "vllm ended with exit code 1", 1),
    ],
)
def test_fails_a_compile_run_with_its_reason(
    container: Container, variables: dict[str, str], words: str, code: int
) -> None:
    """The reason is in the file that a training job's FailureReason comes from."""
    weights(container.folder / "ml" / "input" / "data" / "model")
    (container.state / "ready").touch()
    process = container.start("compile", **{"TOKENMILL_ARTIFACT_KEY": KEY, **variables})
    assert process.wait(PATIENCE) == code
    assert words in (container.folder / "ml" / "output" / "failure").read_text()
    assert not (container.model / "tokenmill-compiled" / "manifest.json").exists()


def test_fails_a_compile_run_without_weights(container: Container) -> None:
    """A job whose channel is missing says so before it starts a server."""
    process = container.start("train", TOKENMILL_ARTIFACT_KEY=KEY)
    assert process.wait(PATIENCE) == 2
    assert "needs a channel called model" in process.communicate()[1]


def test_a_compile_run_that_is_stopped_leaves_nothing(container: Container) -> None:
    """StopTrainingJob ends the server; half a cache is no artifact."""
    weights(container.folder / "ml" / "input" / "data" / "model")
    process = container.start("train", TOKENMILL_ARTIFACT_KEY=KEY)
    eventually((container.state / "worker").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in (container.folder / "ml" / "output" / "failure").read_text()
    assert not (container.model / "tokenmill-compiled").exists()
    assert eventually(lambda: not container.alive())


def test_another_command_runs_as_it_stands(container: Container) -> None:
    """The base image's way of starting anything still works."""
    program = Path(entrypoint.__file__)
    done = subprocess.run(
        [sys.executable, str(program), "echo", "hello"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "hello\n"


def test_the_model_is_the_variable_then_the_folder_then_the_hub(tmp_path: Path) -> None:
    """The order is that of AWS's own container."""
    hub = {"HF_MODEL_ID": "Qwen/Qwen3-8B"}
    assert model_of({**hub, "SM_VLLM_MODEL": "other"}, tmp_path) == "other"
    assert model_of(hub, tmp_path) == "Qwen/Qwen3-8B"
    (tmp_path / "config.json").touch()
    assert model_of(hub, tmp_path) == str(tmp_path)


def test_fails_without_any_model(tmp_path: Path) -> None:
    """The message names every place that was looked at."""
    with pytest.raises(BadEnvironment, match="SM_VLLM_MODEL is not set, .* HF_MODEL_ID is not set"):
        model_of({}, tmp_path)


@pytest.mark.parametrize("name", ["SM_VLLM_PORT", "SM_VLLM_HOST", "SM_VLLM_API_KEY"])
def test_fails_for_a_variable_that_the_program_decides(name: str) -> None:
    """A server that listens elsewhere, or asks for a key, would never be reached."""
    with pytest.raises(BadEnvironment, match=f"{name} cannot be set"):
        server_flags({name: "1"}, "model")


def test_a_model_in_a_folder_is_called_by_its_name() -> None:
    """A caller asks for the model, wherever it lies; an explicit name wins."""
    hub = {"HF_MODEL_ID": "Qwen/Qwen3-8B"}
    assert server_flags(hub, "/opt/ml/model") == ["--served-model-name", "Qwen/Qwen3-8B"]
    assert server_flags({**hub, "SM_VLLM_SERVED_MODEL_NAME": "mine"}, "/opt/ml/model") == [
        "--served-model-name",
        "mine",
    ]


def test_a_body_of_no_known_form_has_no_route() -> None:
    """Lists, texts and empty objects are nothing that a model can answer."""
    assert [route_of(body) for body in ([], "text", {}, None)] == [None] * 4
