"""Parameter Store, CloudWatch and Step Functions in memory; requests are checked by botocore's validators."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

_REGION = "us-east-1"


class _Service:
    """Operations of one service; what is asked must be of the service's own shape."""

    name = ""

    def __init__(self) -> None:
        self._real = boto3.client(
            self.name, region_name=_REGION, aws_access_key_id="x", aws_secret_access_key="y"
        )
        self.exceptions = self._real.exceptions
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def check(self, operation: str, asked: dict[str, Any]) -> None:
        shape = self._real.meta.service_model.operation_model(operation).input_shape
        report = ParamValidator().validate(asked, shape)
        assert not report.has_errors(), report.generate_report()
        self.asked.append((operation, asked))

    def error(self, code: str, operation: str) -> ClientError:
        kind = getattr(self.exceptions, code, ClientError)
        made: ClientError = kind({"Error": {"Code": code, "Message": code}}, operation)
        return made


class Parameters(_Service):
    """Parameter Store."""

    name = "ssm"

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}

    def get_parameter(self, **asked: Any) -> dict[str, Any]:
        self.check("GetParameter", asked)
        if asked["Name"] not in self.values:
            raise self.error("ParameterNotFound", "GetParameter")
        return {"Parameter": {"Name": asked["Name"], "Value": self.values[asked["Name"]]}}

    def put_parameter(self, **asked: Any) -> dict[str, Any]:
        self.check("PutParameter", asked)
        self.values[asked["Name"]] = asked["Value"]
        return {}

    def delete_parameter(self, **asked: Any) -> dict[str, Any]:
        self.check("DeleteParameter", asked)
        if self.values.pop(asked["Name"], None) is None:
            raise self.error("ParameterNotFound", "DeleteParameter")
        return {}

    def get_paginator(self, operation: str) -> Any:
        assert operation == "get_parameters_by_path"
        return self

    def paginate(self, **asked: Any) -> list[dict[str, Any]]:
        self.check("GetParametersByPath", asked)
        found = [
            {"Name": name, "Value": value}
            for name, value in sorted(self.values.items())
            if name.startswith(f"{asked['Path']}/")
        ]
        return [{"Parameters": [one]} for one in found]


class Alarms(_Service):
    """CloudWatch: alarms, and metrics that a test sets by ARN and name."""

    name = "cloudwatch"

    def __init__(self) -> None:
        super().__init__()
        self.alarms: dict[str, dict[str, Any]] = {}
        self.points: dict[tuple[str, str], dict[Any, float]] = {}

    def put_metric_alarm(self, **asked: Any) -> dict[str, Any]:
        self.check("PutMetricAlarm", asked)
        self.alarms[asked["AlarmName"]] = asked
        return {}

    def delete_alarms(self, **asked: Any) -> dict[str, Any]:
        self.check("DeleteAlarms", asked)
        for name in asked["AlarmNames"]:
            self.alarms.pop(name, None)
        return {}

    def get_metric_data(self, **asked: Any) -> dict[str, Any]:
        self.check("GetMetricData", asked)
        results = []
        for query in asked["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            points = self.points.get((metric["Dimensions"][0]["Value"], metric["MetricName"]), {})
            inside = {at: v for at, v in points.items() if asked["StartTime"] <= at < asked["EndTime"]}
            results.append({"Id": query["Id"], "Timestamps": list(inside), "Values": list(inside.values())})
        return {"MetricDataResults": results}


class Executions(_Service):
    """Step Functions: a name is taken once."""

    name = "stepfunctions"

    def __init__(self) -> None:
        super().__init__()
        self.started: dict[str, str] = {}

    def start_execution(self, **asked: Any) -> dict[str, Any]:
        self.check("StartExecution", asked)
        if asked["name"] in self.started:
            raise self.error("ExecutionAlreadyExists", "StartExecution")
        self.started[asked["name"]] = asked["input"]
        return {}


class Stacks(_Service):
    """CloudFormation: one stack's status, and its resources by logical id."""

    name = "cloudformation"

    def __init__(self) -> None:
        super().__init__()
        self.status = "UPDATE_IN_PROGRESS"
        self.resources: dict[str, tuple[str, str]] = {}

    def describe_stacks(self, **asked: Any) -> dict[str, Any]:
        self.check("DescribeStacks", asked)
        return {"Stacks": [{"StackStatus": self.status}]}

    def describe_stack_resource(self, **asked: Any) -> dict[str, Any]:
        self.check("DescribeStackResource", asked)
        logical = asked["LogicalResourceId"]
        if logical not in self.resources:
            message = f"Resource {logical} does not exist for stack {asked['StackName']}"
            raise ClientError({"Error": {"Code": "ValidationError", "Message": message}}, "x")
        status, physical_id = self.resources[logical]
        return {"StackResourceDetail": {"ResourceStatus": status, "PhysicalResourceId": physical_id}}
