"""What a user of examples on Amazon Bedrock looks at, in the local cloud that `support_examples` starts."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from support_examples import COMMAND_SECONDS, Examples
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

# A purchase takes seconds; whoever waits for it looks every fifteen.
SECONDS = 60


def noon_zone() -> str:
    """A time zone in which it is about noon now, so that hours of a day neither begin nor end meanwhile."""
    offset = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-offset:+d}" if offset else "Etc/GMT"


class BedrockExamples(Examples):
    """The examples, and what they own at Bedrock."""

    def run_with(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run somebody else's command line, with what `tokenmill env` says."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.env, **self._client_env},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def destroyed(self, stack: str, *, app: str = "cdk.out") -> None:
        """Delete a stack as docs/local-cloud.md says, which must succeed."""
        done = self.run_with("cdk", "destroy", "--app", app, "--force", stack)
        assert done.returncode == 0, done.stdout + done.stderr

    def units(self) -> list[dict[str, Any]]:
        """All model units that are paid for."""
        found = self.client("bedrock").list_provisioned_model_throughputs()
        summaries: list[dict[str, Any]] = found["provisionedModelSummaries"]
        return summaries

    def in_service(self, count: int) -> bool:
        """Whether units of one purchase, so many, are there and ready."""
        return [(each["modelUnits"], each["status"]) for each in self.units()] == [(count, "InService")]

    def parameters(self, path: str) -> dict[str, dict[str, Any]]:
        """The JSON documents of Parameter Store under a path."""
        found = self.client("ssm").get_parameters_by_path(Path=path, Recursive=True)["Parameters"]
        return {each["Name"]: json.loads(each["Value"]) for each in found}

    def handle(self, name: str) -> dict[str, Any]:
        """What callers read."""
        return self.parameters("/tokenmill/models")[name]

    def handle_becomes(self, name: str, state: str) -> bool:
        """Whether callers are told within a minute."""
        return wait_until(lambda: self.handle(name)["state"] == state, SECONDS)

    def chat(self) -> str:
        """The text of an answer through the gateway."""
        done = self.run("chat", "hello", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        text: str = json.loads(done.stdout)["text"]
        return text

    def fire(self, name: str) -> None:
        """Call what a schedule calls, with what it says."""
        scheduler = self.client("scheduler")
        [found] = [each for each in scheduler.list_schedules()["Schedules"] if name in each["Name"]]
        target = scheduler.get_schedule(Name=found["Name"])["Target"]
        answer = self.client("lambda").invoke(FunctionName=target["Arn"], Payload=target["Input"].encode())
        assert "FunctionError" not in answer, answer["Payload"].read()

    def alarm(self, name: str) -> dict[str, Any]:
        """The one alarm with a part of this name."""
        alarms = self.client("cloudwatch").describe_alarms()["MetricAlarms"]
        [found] = [each for each in alarms if name in each["AlarmName"]]
        return dict(found)

    def alarm_becomes(self, name: str, state: str, seconds: float = 150) -> bool:
        """Whether an alarm comes to a state; its points are minutes."""
        return wait_until(lambda: self.alarm(name)["StateValue"] == state, seconds)

    def metric_sum(self, alarm: str) -> float:
        """The last ten minutes of what an alarm looks at, as a sum."""
        about, now = self.alarm(alarm), datetime.now(UTC)
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace=about["Namespace"],
            MetricName=about["MetricName"],
            Dimensions=about["Dimensions"],
            StartTime=now - timedelta(minutes=10),
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in points)

    def failures(self, stack: str) -> str:
        """The reasons of a stack's events."""
        events = self.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
        return "\n".join(str(each.get("ResourceStatusReason", "")) for each in events)

    def comes(self, condition: Callable[[], bool]) -> bool:
        """Whether something is so within a minute."""
        return wait_until(condition, SECONDS)
