"""`tokenmill keys`: only hashes are stored, the key is shown once, a rotation leaves one key."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import AwsError, FakeAws
from tokenmill.core.errors import TokenmillError
from tokenmill_runtime.api_keys import parse_key, secret_matches

if TYPE_CHECKING:
    from support_commands import Run

Table = dict[str, dict[str, Any]]


@pytest.fixture
def table(fake_aws: FakeAws) -> Table:
    """A deployed gateway's key table."""
    rows: Table = {}

    def put(parameters: dict[str, Any]) -> dict[str, Any]:
        rows[parameters["Item"]["key_id"]["S"]] = parameters["Item"]
        return {}

    def update(parameters: dict[str, Any]) -> dict[str, Any]:
        key_id = parameters["Key"]["key_id"]["S"]
        if key_id not in rows:
            raise AwsError("ConditionalCheckFailedException")
        rows[key_id]["revoked"] = parameters["ExpressionAttributeValues"][":yes"]
        return {}

    def scan(parameters: dict[str, Any]) -> dict[str, Any]:
        # One row a page, so that a reader that forgets the next page is found out.
        order = list(rows)
        start = (
            order.index(parameters["ExclusiveStartKey"]["key_id"]["S"]) + 1
            if "ExclusiveStartKey" in parameters
            else 0
        )
        page = order[start : start + 1]
        more = {"LastEvaluatedKey": {"key_id": {"S": page[0]}}} if start + 1 < len(order) else {}
        return {"Items": [rows[name] for name in page], "Count": len(page), **more}

    outputs = [{"OutputKey": "ApiKeyTable", "OutputValue": "key-table"}]
    fake_aws.answers["cloudformation", "DescribeStacks"] = lambda _: {
        "Stacks": [{"StackName": "tokenmill-chat", "StackStatus": "CREATE_COMPLETE", "Outputs": outputs}]
    }
    fake_aws.answers["dynamodb", "PutItem"] = put
    fake_aws.answers["dynamodb", "UpdateItem"] = update
    fake_aws.answers["dynamodb", "Scan"] = scan
    return rows


def test_create_shows_a_key_and_stores_its_hash_alone(run: Run, table: Table) -> None:
    document = json.loads(run("keys", "create", "--label", "laptop", "--json").stdout)
    parsed = parse_key(document["key"])
    assert parsed is not None
    ((key_id, row),) = table.items()
    assert (parsed[0], row["label"]["S"], row["revoked"]["BOOL"]) == (key_id, "laptop", False)
    assert secret_matches(parsed[1], row["secret_sha256"]["S"])
    assert parsed[1] not in json.dumps(row)


def test_create_prints_the_key_alone_on_standard_output(run: Run, table: Table) -> None:
    assert parse_key(run("keys", "create").stdout.strip()) is not None
    assert len(table) == 1


def test_revoke_takes_a_key_or_its_id(run: Run, table: Table) -> None:
    first, second = (run("keys", "create").stdout.strip() for _ in range(2))
    run("keys", "revoke", "--key", first)
    run("keys", "revoke", "--key", second.split("-")[1])
    assert [row["revoked"]["BOOL"] for row in table.values()] == [True, True]


def test_list_reads_every_page_and_shows_no_secret(run: Run, table: Table) -> None:
    secrets = [run("keys", "create", "--label", str(number)).stdout.strip()[16:] for number in range(3)]
    listed = run("keys", "list", "--json").stdout
    assert {key["key_id"] for key in json.loads(listed)["keys"]} == set(table)
    assert not [secret for secret in secrets if secret in listed]
    assert run("keys", "list").stdout.count("in use") == 3


def test_rotate_shows_the_new_key_before_the_old_one_ends(
    run: Run, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = run("keys", "create", "--label", "laptop").stdout.strip()
    slept: list[tuple[float, list[bool]]] = []
    monkeypatch.setattr(
        time,
        "sleep",
        lambda seconds: slept.append((seconds, [row["revoked"]["BOOL"] for row in table.values()])),
    )
    document = json.loads(run("keys", "rotate", "--grace", "60", "--json").stdout)
    assert document["replaces"] == old.split("-")[1]
    assert slept == [(60, [False, False])]
    assert {key_id: row["revoked"]["BOOL"] for key_id, row in table.items()} == {
        document["replaces"]: True,
        document["key_id"]: False,
    }
    assert table[document["key_id"]]["label"]["S"] == "laptop"


def test_an_interrupted_rotation_says_that_the_old_key_still_works(
    run: Run, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keys", "create")

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    result = run("keys", "rotate")
    assert "still works; revoke it with: tokenmill keys revoke chat --key" in result.output
    assert [row["revoked"]["BOOL"] for row in table.values()] == [False, False]


def test_fails_to_rotate_when_it_is_not_clear_which(run: Run, table: Table) -> None:
    error = run("keys", "rotate").exception
    assert isinstance(error, TokenmillError)
    assert str(error) == "--key must name the key to replace, 0 are in use: none"
    assert not table
    for _ in range(2):
        run("keys", "create")
    assert "2 are in use" in str(run("keys", "rotate").exception)


def test_fails_to_rotate_a_revoked_key(run: Run, table: Table) -> None:
    key = run("keys", "create").stdout.strip()
    run("keys", "revoke", "--key", key)
    assert "no key in use has the id" in str(run("keys", "rotate", "--key", key).exception)
    assert len(table) == 1


def test_fails_to_revoke_an_unknown_key_and_names_the_known(run: Run, table: Table) -> None:
    run("keys", "create")
    error = run("keys", "revoke", "--key", "0123456789ab").exception
    assert str(error) == f"tokenmill-chat has no key '0123456789ab'; it has {next(iter(table))}"


@pytest.mark.usefixtures("table")
def test_fails_when_the_stack_is_not_deployed(run: Run, fake_aws: FakeAws) -> None:
    def missing(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ValidationError", "Stack with id tokenmill-chat does not exist")

    fake_aws.answers["cloudformation", "DescribeStacks"] = missing
    assert str(run("keys", "create").exception) == (
        "stack tokenmill-chat is not deployed in us-east-1; deploy it with: npx cdk deploy tokenmill-chat"
    )


@pytest.mark.usefixtures("table")
def test_fails_when_the_stack_has_no_gateway(run: Run, fake_aws: FakeAws) -> None:
    fake_aws.answers["cloudformation", "DescribeStacks"] = lambda _: {
        "Stacks": [{"StackName": "tokenmill-chat", "StackStatus": "CREATE_COMPLETE"}]
    }
    assert "has no output ApiKeyTable" in str(run("keys", "create").exception)


@pytest.mark.usefixtures("project")
def test_fails_without_credentials_with_one_sentence(run: Run) -> None:
    error = run("keys", "list").exception
    assert isinstance(error, TokenmillError)
    assert "tokenmill doctor" in str(error)
