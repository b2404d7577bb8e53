"""CloudFormation handlers over APIs that MiniStack has without their CloudFormation types.

They call those APIs as any client does, so botocore validates what is sent. They block, and therefore run on
a worker thread of MiniStack. A changed property replaces the resource.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import Scope, ServiceShapes
from tokenmill.local.cloudformation.common import Outcome, only
from tokenmill.local.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.aws_requests import Params
    from tokenmill.local.ministack_seams import Ministack

    Create = Callable[[Any, Params, str], Outcome]
    Delete = Callable[[Any, str, Params], None]


class ApiResource:
    """A resource type made and deleted through boto3.

    Args:
        ministack: MiniStack's modules.
        service: boto3's name of the service.
        create: Makes it: client, properties and a generated name in, outcome out.
        delete: Deletes it: client, physical id, properties.
    """

    def __init__(self, ministack: Ministack, service: str, create: Create, delete: Delete) -> None:
        self._ministack = ministack
        self._service = service
        self._create = create
        self._delete = delete

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Make the resource."""
        name = self._ministack.physical_name(stack, logical_id, longest=63)
        return self._create(self._client(), properties, name)

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Make another one; CloudFormation deletes the old one afterwards."""
        return self.create(logical_id, after, stack)

    def delete(self, physical_id: str, properties: Params) -> None:
        """Delete the resource."""
        self._delete(self._client(), physical_id, properties)

    def _client(self) -> Any:
        import boto3

        scope: Scope = self._ministack.scope()
        make: Any = boto3.client  # its overloads want a literal name
        return make(
            self._service,
            endpoint_url=f"http://{LOOPBACK}:{os.environ['GATEWAY_PORT']}",
            region_name=scope.region,
            aws_access_key_id=scope.account,
            aws_secret_access_key="local",
        )


def api_resources(ministack: Ministack) -> dict[str, ApiResource]:
    """Return the handlers by resource type.

    Args:
        ministack: MiniStack's modules.
    """
    rows: tuple[tuple[str, str, Create, Delete], ...] = (
        ("AWS::Backup::BackupSelection", "backup", _create_selection, _delete_selection),
        ("AWS::CloudWatch::CompositeAlarm", "cloudwatch", _create_composite, _delete_composite),
        ("AWS::EC2::EIP", "ec2", _create_address, _delete_address),
        ("AWS::EC2::FlowLog", "ec2", _create_flow_log, _delete_flow_log),
        ("AWS::EC2::NatGateway", "ec2", _create_nat, _delete_nat),
        ("AWS::EC2::SecurityGroupEgress", "ec2", *_rule("egress")),
        ("AWS::EC2::SecurityGroupIngress", "ec2", *_rule("ingress")),
        ("AWS::WAFv2::WebACLAssociation", "wafv2", _create_association, _delete_association),
    )
    return {name: ApiResource(ministack, service, create, delete) for name, service, create, delete in rows}


def _create_selection(client: Any, properties: Params, name: str) -> Outcome:
    answer = client.create_backup_selection(**only(properties, "BackupPlanId", "BackupSelection"))
    identity = answer["SelectionId"]
    return identity, {"Id": identity, "SelectionId": identity, "BackupPlanId": properties["BackupPlanId"]}


def _delete_selection(client: Any, identity: str, properties: Params) -> None:
    client.delete_backup_selection(BackupPlanId=properties["BackupPlanId"], SelectionId=identity)


def _create_composite(client: Any, properties: Params, name: str) -> Outcome:
    params = {"AlarmName": name, **{k: v for k, v in properties.items() if k != "Tags"}}
    client.put_composite_alarm(**ServiceShapes("cloudwatch").coerce("PutCompositeAlarm", params))
    [alarm] = client.describe_alarms(AlarmNames=[params["AlarmName"]], AlarmTypes=["CompositeAlarm"])[
        "CompositeAlarms"
    ]
    return params["AlarmName"], {"Arn": alarm["AlarmArn"]}


def _delete_composite(client: Any, name: str, properties: Params) -> None:
    client.delete_alarms(AlarmNames=[name])


def _create_address(client: Any, properties: Params, name: str) -> Outcome:
    answer = client.allocate_address(Domain="vpc")
    return answer["PublicIp"], {"AllocationId": answer["AllocationId"], "PublicIp": answer["PublicIp"]}


def _delete_address(client: Any, address: str, properties: Params) -> None:
    [found] = client.describe_addresses(PublicIps=[address])["Addresses"]
    client.release_address(AllocationId=found["AllocationId"])


def _create_flow_log(client: Any, properties: Params, name: str) -> Outcome:
    params = only(properties, "ResourceType", "TrafficType", "LogDestinationType", "LogGroupName")
    params |= only(properties, "DeliverLogsPermissionArn", "LogDestination", "MaxAggregationInterval")
    answer = client.create_flow_logs(ResourceIds=[properties["ResourceId"]], **params)
    identity = answer["FlowLogIds"][0]
    return identity, {"Id": identity}


def _delete_flow_log(client: Any, identity: str, properties: Params) -> None:
    client.delete_flow_logs(FlowLogIds=[identity])


def _create_nat(client: Any, properties: Params, name: str) -> Outcome:
    params = only(properties, "SubnetId", "AllocationId", "ConnectivityType")
    identity = client.create_nat_gateway(**params)["NatGateway"]["NatGatewayId"]
    return identity, {"NatGatewayId": identity}


def _delete_nat(client: Any, identity: str, properties: Params) -> None:
    client.delete_nat_gateway(NatGatewayId=identity)


def _rule(direction: str) -> tuple[Create, Delete]:
    def permission(properties: Params) -> dict[str, Any]:
        rule: dict[str, Any] = {"IpProtocol": str(properties["IpProtocol"])}
        rule |= {key: int(properties[key]) for key in ("FromPort", "ToPort") if key in properties}
        described = {"Description": properties["Description"]} if "Description" in properties else {}
        if "CidrIp" in properties:
            rule["IpRanges"] = [{"CidrIp": properties["CidrIp"], **described}]
        if "CidrIpv6" in properties:
            rule["Ipv6Ranges"] = [{"CidrIpv6": properties["CidrIpv6"], **described}]
        peer = properties.get("SourceSecurityGroupId") or properties.get("DestinationSecurityGroupId")
        if peer:
            rule["UserIdGroupPairs"] = [{"GroupId": peer, **described}]
        return {"GroupId": properties["GroupId"], "IpPermissions": [rule]}

    def create(client: Any, properties: Params, name: str) -> Outcome:
        getattr(client, f"authorize_security_group_{direction}")(**permission(properties))
        return name, {"Id": name}

    def delete(client: Any, identity: str, properties: Params) -> None:
        getattr(client, f"revoke_security_group_{direction}")(**permission(properties))

    return create, delete


def _create_association(client: Any, properties: Params, name: str) -> Outcome:
    client.associate_web_acl(**only(properties, "WebACLArn", "ResourceArn"))
    return f"{properties['WebACLArn']}|{properties['ResourceArn']}", {}


def _delete_association(client: Any, identity: str, properties: Params) -> None:
    client.disassociate_web_acl(**only(properties, "ResourceArn"))
