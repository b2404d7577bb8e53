"""The real app in the local cloud, from `tokenmill up` to `down`; the tests follow one another."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from support_local import listening_addresses
from tokenmill.local.cdk_cli import cli_environment
from tokenmill.local.processes import group_members, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Project

MODEL = "Qwen/Qwen3-8B"
NOBODY = "tm-0123456789ab-" + "A" * 43


@pytest.fixture
def chat(project: Project) -> Iterator[openai.OpenAI]:
    """The unmodified openai client."""
    with openai.OpenAI(
        base_url=project.state.base_url, api_key=project.state.api_key, max_retries=0
    ) as client:
        yield client


def streamed(chat: openai.OpenAI, text: str, conversation: str, **options: Any) -> list[tuple[float, str]]:
    """Pieces of an answer with the time at which each arrived."""
    stream = chat.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": text}],
        stream=True,
        metadata={"conversation_id": conversation},
        **options,
    )
    with stream:
        return [
            (time.monotonic(), chunk.choices[0].delta.content)
            for chunk in stream
            if chunk.choices and chunk.choices[0].delta.content
        ]


def post(project: Project, *, key: str | None = None, content: bytes) -> httpx.Response:
    headers = {"authorization": f"Bearer {key or project.state.api_key}", "content-type": "application/json"}
    return httpx.post(
        f"{project.state.base_url}/chat/completions",
        content=content,
        headers=headers,
        trust_env=False,
        timeout=30,
    )


def request(**changes: Any) -> bytes:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, **changes}
    return json.dumps(body).encode()


def test_up_goes_through_every_step_and_prints_a_streamed_answer(project: Project) -> None:
    for step in ("check", "cloud", "plan", "bootstrap", "synthesize", "lint", "deploy", "gateway"):
        assert re.search(rf"^{step}\s.*\(\d+\.\d s\)$", project.output, re.MULTILINE), project.output
    assert "I hold no weights" in project.output
    assert re.search(r"\d+ tokens, first after \d+ ms, then \d+\.\d tokens/s", project.output)
    assert f"base URL      {project.state.base_url}" in project.output
    assert f"API key       {project.state.api_key}" in project.output


def test_the_first_answer_is_printed_while_it_arrives(project: Project) -> None:
    """Between the first and the last character of the answer lie at least two seconds of about three."""
    start = project.output.index('You asked "')
    end = project.output.index("hear from a real model.")
    assert project.arrivals[end][0] - project.arrivals[start][0] > 1.5


def test_two_turns_of_one_conversation_through_the_openai_client(chat: openai.OpenAI) -> None:
    first = streamed(chat, "my name is Ada", "two-turns")
    assert "Your prompt had 1 message" in "".join(piece for _, piece in first)
    second = streamed(chat, "what is my name?", "two-turns")
    answer = "".join(piece for _, piece in second)
    assert 'You asked "what is my name?"' in answer
    assert "Your prompt had 3 messages" in answer, "question, answer and question: the gateway remembers"


def test_tokens_arrive_one_by_one_in_the_plans_time(chat: openai.OpenAI, project: Project) -> None:
    plan = json.loads((project.folder / "chat.plan.json").read_text())
    step_ms = plan["candidates"][0]["engine"]["step_base_ms"]
    pieces = streamed(chat, "one by one", "spread", max_tokens=40)
    gaps = [(b - a) * 1000 for (a, _), (b, _) in zip(pieces, pieces[1:], strict=False)]
    spread_ms = (pieces[-1][0] - pieces[0][0]) * 1000
    assert len(pieces) == 40
    assert spread_ms > 39 * step_ms * 0.8, "not in one piece"
    assert sorted(gaps)[len(gaps) // 2] > step_ms * 0.5, "the middle gap is a decode step, not a burst"


def test_a_whole_answer_has_its_usage(chat: openai.OpenAI) -> None:
    answer = chat.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], max_tokens=6
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6
    assert [model.id for model in chat.models.list()] == [MODEL]


def test_fails_401_for_a_wrong_key_from_the_real_authorizer(project: Project) -> None:
    answer = post(project, key=NOBODY, content=request())
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    with (
        openai.OpenAI(base_url=project.state.base_url, api_key="x", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{not json", 400),
        (request(model="gpt-0"), 404),
        (request(messages=[]), 400),
        (request(max_tokens=100_000), 400),
        (request(messages=[{"role": "user", "content": "x" * 2_000_000}]), 413),
    ],
    ids=["not-json", "unknown-model", "no-message", "too-many-tokens", "too-long"],
)
def test_fails_bad_requests_with_an_openai_error_object(
    project: Project, content: bytes, status: int
) -> None:
    answer = post(project, content=content)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["message"]
    assert "Traceback" not in answer.text


def test_the_gateways_log_lines_are_metrics(project: Project) -> None:
    cloudwatch, target = project.client("cloudwatch"), project.outputs()["ComponentName"]

    def seen() -> set[str]:
        dimensions = [{"Name": "Target", "Value": target}]
        metrics = cloudwatch.list_metrics(Namespace="tokenmill", Dimensions=dimensions)["Metrics"]
        return {metric["MetricName"] for metric in metrics}

    wanted = {"TokenWork", "InputTokens", "OutputTokens", "Requests", "Errors", "TimeToFirstToken"}
    assert wait_until(lambda: wanted <= seen(), 5), seen()


def test_the_heartbeat_publishes_the_copies_that_sagemaker_reports(project: Project) -> None:
    functions = project.client("lambda")
    [heartbeat] = [
        function["FunctionName"]
        for function in functions.list_functions()["Functions"]
        if "TOKENMILL_HEARTBEAT" in function.get("Environment", {}).get("Variables", {})
    ]
    answer = functions.invoke(FunctionName=heartbeat, Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()
    dimensions = [{"Name": "Target", "Value": project.outputs()["ComponentName"]}]

    def copies() -> float | None:
        """The newest: a heartbeat a minute came before it, and an hour or a scaling may lie between."""
        points = project.client("cloudwatch").get_metric_statistics(
            Namespace="tokenmill",
            MetricName="Copies",
            Dimensions=dimensions,
            StartTime=time.time() - 600,
            EndTime=time.time() + 60,
            Period=60,
            Statistics=["Maximum"],
        )["Datapoints"]
        newest = max(points, key=lambda point: point["Timestamp"], default=None)
        return newest and newest["Maximum"]

    [component] = project.json("status")["components"]
    assert wait_until(lambda: copies() == component["CurrentCopyCount"], 15), copies()


def test_an_alarm_over_two_metrics_is_evaluated(project: Project) -> None:
    """The error share has data by now and is below its threshold."""

    def reason() -> str:
        alarms = {alarm["name"]: alarm for alarm in project.json("status")["alarms"]}
        [errors] = [alarm for name, alarm in alarms.items() if "Errors" in name]
        return str(errors["reason"])

    assert wait_until(lambda: "datapoints [0" in reason(), 15), reason()


def test_status_tells_processes_scaling_and_levels(project: Project) -> None:
    status = project.json("status")
    assert status["gateway"]["running"]
    [server] = status["model_servers"]
    assert (server["model"], server["timing"], server["running"]) == (MODEL, "plan", True)
    assert status["endpoints"][0]["EndpointStatus"] == "InService"
    assert {policy["PolicyType"] for policy in status["scaling_policies"]} == {"TargetTrackingScaling"}
    assert status["control_loop"].startswith("target tracking, steps and schedules act")
    levels = {entry["type"]: entry["level"] for entry in status["levels"]}
    assert levels["AWS::Lambda::Function"] == "real"
    assert levels["AWS::SageMaker::InferenceComponent"] == "modelled"
    assert "refused" not in levels.values()
    shown = project.run("status")
    assert shown.returncode == 0
    assert "metrics seen: " in shown.stdout


def test_chat_streams_from_the_command_line(project: Project) -> None:
    answer = project.json("chat", "hello there", "--conversation", "cli")
    assert 'You asked "hello there"' in answer["text"]
    assert answer["ttft_ms"] > 0
    assert answer["tokens_per_second"] > 1


def test_nothing_listens_beyond_the_loopback_interface(project: Project) -> None:
    assert {address for address, _ in listening_addresses(project.state.cloud_pid)} == {"127.0.0.1"}


def test_a_model_that_dies_mid_answer_gives_an_error_event_and_keeps_the_turn(
    chat: openai.OpenAI, project: Project
) -> None:
    pid = project.model_server_pid()
    stream = chat.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "do not forget this"}],
        stream=True,
        metadata={"conversation_id": "cut-short"},
    )
    with stream, pytest.raises(openai.APIError, match=r"\S"):
        for number, _ in enumerate(stream):
            if number == 5:
                os.kill(pid, signal.SIGKILL)
    refused = post(project, content=request())
    assert refused.status_code in (502, 503), refused.text
    assert refused.json()["error"]["message"]
    [dead] = project.json("status")["model_servers"]
    assert not dead["running"]


def test_up_again_redeploys_unchanged_restarts_the_model_and_answers(project: Project) -> None:
    before = project.state
    document = project.json("up", "chat")
    steps = {step["step"]: step for step in document["steps"]}
    assert "bootstrap" not in steps
    again = steps["lint"]["detail"]
    assert "for this very assembly" in again or "not run" in again, f"{again}; at first: {project.output}"
    assert document["base_url"] == before.base_url
    assert document["api_key"] == before.api_key
    assert document["answer"]["tokens"] > 20
    assert project.state.cloud_pid == before.cloud_pid


def test_the_turn_that_was_cut_short_is_in_the_conversation(chat: openai.OpenAI) -> None:
    answer = "".join(piece for _, piece in streamed(chat, "what did I say?", "cut-short"))
    assert "Your prompt had 3 messages" in answer


def test_fails_for_a_port_in_use_before_anything_is_started(project: Project, tmp_path: Any) -> None:
    other = type(project)(tmp_path)
    port = project.state.port
    done = other.run("up", "chat", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".tokenmill" / "cloud.json").exists()


@pytest.mark.parametrize(
    ("option", "variable"), [(("--port", "1"), {}), ((), {"TOKENMILL_MODEL_URL": "http://127.0.0.1:1/v1"})]
)
def test_fails_to_change_what_a_running_cloud_was_started_with(
    project: Project, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...], variable: dict[str, str]
) -> None:
    monkeypatch.setattr(project, "env", {**project.env, **variable})
    done = project.run("up", "chat", *option)
    assert done.returncode == 2
    assert f"{[*variable, *option][0]} is" in done.stderr
    assert "run `tokenmill down` first" in done.stderr


def test_destroy_takes_endpoint_model_server_and_gateway_away(project: Project) -> None:
    state = project.state
    env = cli_environment(
        project.folder / ".tokenmill", endpoint=state.endpoint, account=state.account, region=state.region
    )
    command = [
        "node_modules/.bin/cdk",
        "destroy",
        "--app",
        "cdk.out",
        "tokenmill-chat",
        "--force",
        "--no-notices",
    ]
    subprocess.run(command, cwd=project.folder, env=env, check=True, capture_output=True, timeout=60)
    status = project.json("status")
    assert status["model_servers"] == []
    assert status["endpoints"] == []
    assert wait_until(lambda: not project.json("status")["gateway"]["running"], 10)


def test_up_after_destroy_serves_again_with_a_key_that_the_new_table_has(project: Project) -> None:
    before = project.state
    done = project.run("up", "chat")
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.state.api_key != before.api_key
    assert project.state.base_url == before.base_url
    assert project.json("chat", "hello")["tokens"] > 1


def test_down_leaves_no_process_and_no_listener(project: Project) -> None:
    state = project.state
    done = project.run("down")
    assert done.stdout == "stopped\n"
    assert group_members(state.cloud_pid) == []
    for url in (state.endpoint, state.base_url or ""):
        with pytest.raises(httpx.TransportError):
            httpx.get(url, trust_env=False)
    assert not (project.folder / ".tokenmill" / "cloud.json").exists()
    assert project.run("status").returncode == 2
