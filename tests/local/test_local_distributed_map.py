"""Distributed maps in one cloud process: batches, results in S3, failures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_local import client
from support_local_workflows import get, keys, new_bucket, output, put, run

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess


@pytest.fixture
def bucket(cloud: CloudProcess) -> str:
    return new_bucket(cloud)


def distributed(**fields: Any) -> dict[str, Any]:
    """A distributed map whose children return their input, or fail where it says so."""
    fails = [{"Variable": "$.fail", "IsPresent": True, "Next": "Fail"}]
    return {
        "Type": "Map",
        "Label": "Each",
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "Choose",
            "States": {
                "Choose": {"Type": "Choice", "Choices": fails, "Default": "Pass"},
                "Fail": {"Type": "Fail", "Error": "Told", "Cause": "to fail"},
                "Pass": {"Type": "Pass", "End": True},
            },
        },
        "End": True,
        **fields,
    }


def test_a_distributed_map_batches_items_and_writes_results(cloud: CloudProcess, bucket: str) -> None:
    put(cloud, bucket, "items.json", [{"n": n} for n in range(5)])
    fields = {
        "ItemReader": {
            "Resource": "arn:aws:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSON"},
            "Parameters": {"Bucket": bucket, "Key": "items.json"},
        },
        "ItemSelector": {"n.$": "$$.Map.Item.Value.n", "of.$": "$.run"},
        "ItemBatcher": {"MaxItemsPerBatch": 2, "BatchInput": {"run.$": "$.run"}},
        "ResultWriter": {
            "Resource": "arn:aws:states:::s3:putObject",
            "Parameters": {"Bucket": bucket, "Prefix": "results"},
        },
    }
    result = output(run(cloud, {"Map": distributed(**fields)}, {"run": "r1"}))
    details = result["ResultWriterDetails"]
    run_id = result["MapRunArn"].rpartition(":")[2]
    assert details == {"Bucket": bucket, "Key": f"results/{run_id}/manifest.json"}
    manifest = get(cloud, bucket, details["Key"])
    assert (manifest["MapRunArn"], manifest["DestinationBucket"]) == (result["MapRunArn"], bucket)
    assert manifest["ResultFiles"]["FAILED"] == manifest["ResultFiles"]["PENDING"] == []
    [written] = manifest["ResultFiles"]["SUCCEEDED"]
    children = get(cloud, bucket, written["Key"])
    inputs = [json.loads(child["Input"]) for child in children]
    assert [[item["n"] for item in given["Items"]] for given in inputs] == [[0, 1], [2, 3], [4]]
    assert inputs[0]["BatchInput"] == {"run": "r1"}
    assert inputs[0]["Items"][0] == {"n": 0, "of": "r1"}
    assert {child["Status"] for child in children} == {"SUCCEEDED"}
    assert json.loads(children[0]["Output"]) == inputs[0]
    described = client(cloud.endpoint, "stepfunctions").describe_map_run(mapRunArn=result["MapRunArn"])
    assert (described["itemCounts"]["succeeded"], described["executionCounts"]["succeeded"]) == (5, 3)


def test_a_distributed_map_returns_outputs_without_a_writer(cloud: CloudProcess) -> None:
    items = [{"n": 1}, {"n": 2}]
    assert output(run(cloud, {"Map": distributed(ItemsPath="$.items")}, {"items": items})) == items


def test_a_tolerated_failure_is_written_beside_the_successes(cloud: CloudProcess, bucket: str) -> None:
    writer = {
        "Resource": "arn:aws:states:::s3:putObject",
        "Parameters": {"Bucket": bucket, "Prefix": "results"},
    }
    fields = {"ItemsPath": "$.items", "ToleratedFailurePercentage": 50, "ResultWriter": writer}
    items = {"items": [{"n": 1}, {"fail": True}]}
    result = output(run(cloud, {"Map": distributed(**fields)}, items))
    files = get(cloud, bucket, result["ResultWriterDetails"]["Key"])["ResultFiles"]
    [failed] = get(cloud, bucket, files["FAILED"][0]["Key"])
    assert (failed["Error"], failed["Cause"], failed["Status"]) == ("Told", "to fail", "FAILED")
    assert len(get(cloud, bucket, files["SUCCEEDED"][0]["Key"])) == 1
    fields["ToleratedFailurePercentage"] = 49
    execution = run(cloud, {"Map": distributed(**fields)}, items)
    assert execution["error"] == "States.ExceedToleratedFailureThreshold"
    assert len([key for key in keys(cloud, bucket) if key.endswith("manifest.json")]) == 2, (
        "written all the same"
    )


def test_results_are_flattened_into_lines_where_the_writer_says_so(cloud: CloudProcess, bucket: str) -> None:
    writer = {
        "Resource": "arn:aws:states:::s3:putObject",
        "Parameters": {"Bucket": bucket},
        "WriterConfig": {"Transformation": "FLATTEN", "OutputType": "JSONL"},
    }
    items = {"items": [[1, 2], [3]]}
    state = distributed(ItemsPath="$.items", ResultWriter=writer)
    state["ItemProcessor"] |= {"StartAt": "Pass"}
    result = output(run(cloud, {"Map": state}, items))
    files = get(cloud, bucket, result["ResultWriterDetails"]["Key"])["ResultFiles"]
    [written] = files["SUCCEEDED"]
    assert written["Key"].endswith("SUCCEEDED_0.jsonl")
    body = client(cloud.endpoint, "s3").get_object(Bucket=bucket, Key=written["Key"])["Body"].read()
    assert body == b"1\n2\n3\n"


def test_fails_a_distributed_map_whose_results_cannot_be_written(cloud: CloudProcess) -> None:
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "no-such-bucket-here"}}
    execution = run(cloud, {"Map": distributed(ItemsPath="$.items", ResultWriter=writer)}, {"items": [1]})
    assert execution["error"] == "States.ResultWriterFailed"
