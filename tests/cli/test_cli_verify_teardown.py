"""What `tokenmill verify` creates goes away: after a failure, after a kill, and by another try."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import ACCOUNT, AwsError
from support_verify import HURRIED, only, probe, session
from tokenmill.core.errors import TokenmillError
from tokenmill.verification import Verdict, clean_up
from tokenmill.verification.ledger import Entry, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support_commands import Run
    from support_fake_aws import Resources


def test_a_probe_that_breaks_down_is_unclear_and_still_torn_down(
    resources: Resources, tmp_path: Path
) -> None:
    def denied(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("AccessDeniedException", "not you", 403)

    resources.fake.answers["sagemaker", "CreateEndpoint"] = denied
    evidence = only(probe(tmp_path, "neuron-image-driver"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert "not you" in evidence.observations["error"]
    assert resources.left == set()


def test_an_endpoint_that_never_comes_up_ends_in_time_and_is_kept_in_the_ledger(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenmill.verification import teardown

    monkeypatch.setattr(teardown, "_SECONDS", 0.05)
    resources.status["neuron"] = "Creating"
    result = probe(tmp_path, "neuron-image-driver")
    assert "did not happen in time" in only(result).observations["error"]
    assert result.exit_code == 1
    kept = [entry.kind for entry in Ledger(tmp_path / "verify-ledger.json").entries]
    assert kept == ["role", "log-group", "endpoint-config", "endpoint"]
    assert "DeleteRole" not in resources.fake.operations("iam")
    with pytest.raises(TokenmillError, match="an earlier run left 4 resources .* tokenmill verify --cleanup"):
        probe(tmp_path, "neuron-image-driver")
    resources.status["neuron"] = "InService"
    assert clean_up(session=session(), state=tmp_path, pace=HURRIED) == ()
    assert resources.left == set()


def test_a_new_role_is_given_time_to_become_known(resources: Resources, tmp_path: Path) -> None:
    real = resources.fake.answers["sagemaker", "CreateModel"]
    tries: list[int] = []

    def not_yet(parameters: dict[str, Any]) -> dict[str, Any]:
        tries.append(1)
        if len(tries) < 3:
            raise AwsError("ValidationException", "Could not assume role")
        return real(parameters)

    resources.fake.answers["sagemaker", "CreateModel"] = not_yet
    probe(tmp_path, "emf-from-endpoint-logs")
    assert len(tries) == 3


def test_every_resource_is_in_the_ledger_before_it_is_asked_for(resources: Resources, tmp_path: Path) -> None:
    ledger = tmp_path / "verify-ledger.json"
    written: dict[str, str] = {}
    creations = {
        "CreateEndpoint": "endpoint",
        "CreateEndpointConfig": "endpoint-config",
        "CreateRole": "role",
    }
    for (service, operation), answer in list(resources.fake.answers.items()):
        if operation in creations:

            def look(
                parameters: dict[str, Any],
                operation: str = operation,
                answer: Callable[..., dict[str, Any]] = answer,
            ) -> dict[str, Any]:
                written[operation] = ledger.read_text(encoding="utf-8")
                return answer(parameters)

            resources.fake.answers[service, operation] = look
    probe(tmp_path, "neuron-device-unit")
    assert set(written) == set(creations)
    assert all(f'"kind": "{creations[operation]}"' in text for operation, text in written.items())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_run_is_cleaned_up(
    resources: Resources, project: Path, run: Run, number: signal.Signals
) -> None:
    """SIGTERM and SIGHUP tear down on the way out; after SIGKILL the ledger knows what to delete."""
    resources.status["neuron"] = "Creating"
    script = "from tokenmill.cli import main; main()"
    arguments = ["verify", "--account", "--yes", "--line", "neuron-image-driver"]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.DEVNULL)
    try:
        wait_for(
            lambda: (
                bool(resources.live["Endpoint"])
                and "DescribeEndpoint" in resources.fake.operations("sagemaker")
            )
        )
        process.send_signal(number)
        resources.status["neuron"] = "InService"
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    if number == signal.SIGKILL:
        assert {left.split()[0] for left in resources.left} == {"Endpoint", "EndpointConfig", "Role"}
        assert run("verify", "--cleanup").stdout.splitlines()[-1] == "nothing is left"
    assert resources.left == set()
    assert not (project / ".tokenmill" / "verify-ledger.json").exists()


def test_cleanup_leaves_other_accounts_alone(resources: Resources, tmp_path: Path) -> None:
    entry = Entry(
        kind="role",
        name="theirs",
        account="999999999999",
        region="us-east-1",
        endpoint=resources.fake.url,
        created="",
    )
    Ledger(tmp_path / "verify-ledger.json").add(entry)
    resources.create("Role", "theirs")
    left = clean_up(session=session(), state=tmp_path, pace=HURRIED)
    assert left == ("role theirs in account 999999999999, us-east-1",)
    assert resources.left == {"Role theirs"}


def test_cleanup_forgets_what_is_already_gone(resources: Resources, tmp_path: Path) -> None:
    kinds = (
        "role",
        "bucket",
        "log-group",
        "endpoint",
        "inference-component",
        "model",
        "function",
        "rest-api",
    )
    for kind in kinds:
        Ledger(tmp_path / "verify-ledger.json").add(
            Entry(
                kind=kind,
                name="gone",
                account=ACCOUNT,
                region="us-east-1",
                endpoint=resources.fake.url,
                created="",
            )
        )

    def no_role(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("NoSuchEntity", "The role cannot be found", 404)

    def no_bucket(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("NoSuchBucket", "The bucket does not exist", 404)

    resources.fake.answers["iam", "ListRolePolicies"] = no_role
    resources.fake.answers["s3", "ListObjectsV2"] = no_bucket
    assert clean_up(session=session(), state=tmp_path, pace=HURRIED) == ()
    assert not (tmp_path / "verify-ledger.json").exists()


def test_fails_on_a_ledger_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("{", encoding="utf-8")
    with pytest.raises(TokenmillError, match="look in the account for resources tagged tokenmill:verify"):
        Ledger(tmp_path / "ledger")


def wait_for(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
