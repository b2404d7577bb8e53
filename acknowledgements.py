"""What this app answers its auditors for findings that it does not follow: a sentence each, narrowly scoped.

Copy this file with app.py and make the reasons your own. tokenmill's constructs answer for AwsSolutions
only; what NIST 800-53, HIPAA, PCI and Serverless say is a matter of the app that deploys. `compliance =
true` in tokenmill.toml meets most of it (network, customer keys, backups, dead letters, concurrency, alarm
topic) in place of answering.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.lint import acknowledge

if TYPE_CHECKING:
    from constructs import IConstruct

    from tokenmill.security import RuntimeFunction
    from tokenmill_stacks import BatchStack, ChatStack


def acknowledge_findings(stack: ChatStack) -> None:
    """Acknowledge what remains in a chat stack.

    Args:
        stack: The stack.
    """
    functions = _functions(stack)
    roles: list[IConstruct] = [function.role for function in functions]
    if stack.endpoint is not None:
        roles.append(stack.endpoint.role)
    for role in roles:
        _in_packs(
            role,
            "IAMNoInlinePolicy",
            reason="The policy belongs to this one role and is deleted with it; nothing else could "
            "attach it.",
        )
    for function in functions:
        _runtime(function)
    _front_door(stack)
    _warnings(stack)
    if stack.settings.own_network:
        _own_network(stack)
        return
    for function in functions:
        _shared_function(function)
    _dead_letters(stack)
    _amazon_keys(stack)
    _data(stack)


def acknowledge_batch(stack: BatchStack) -> None:
    """Acknowledge what remains in a batch stack.

    Args:
        stack: The stack.
    """
    for child in stack.node.find_all():
        kind = getattr(child, "cfn_resource_type", "")
        for name, also, reason in BATCH_ANSWERS.get(kind, ()):
            if name:
                _in_packs(child, name, also=also, reason=reason)
            else:
                acknowledge(child, *also, reason=reason)


# By type: a rule that the three packs share, rules besides it, and what to tell of them.
BATCH_ANSWERS: dict[str, tuple[tuple[str, tuple[str, ...], str], ...]] = {
    "AWS::IAM::Policy": (
        ("IAMNoInlinePolicy", (), "The policy belongs to this one role and is deleted with it."),
    ),
    "AWS::Lambda::Function": (
        (
            "LambdaInsideVPC",
            ("CKV_AWS_117",),
            "The function calls AWS services only, by TLS and its own role.",
        ),
        (
            "",
            (
                "NIST.800.53.R5-LambdaConcurrency",
                "HIPAA.Security-LambdaConcurrency",
                "CKV_AWS_115",
                "NIST.800.53.R5-LambdaDLQ",
                "HIPAA.Security-LambdaDLQ",
                "Serverless-LambdaDLQ",
                "CKV_AWS_116",
            ),
            "The state machine bounds how often it runs, waits for its answers and looks again where an "
            "event got lost.",
        ),
        (
            "",
            ("Serverless-LambdaLatestVersion", "CKV_AWS_173"),
            "The runtime is supported and tested with this release, and the variables hold no secret.",
        ),
    ),
    "AWS::Logs::LogGroup": (
        (
            "CloudWatchLogGroupEncrypted",
            ("CKV_AWS_158",),
            "CloudWatch Logs encrypts with a key of its own, and no prompt and no answer is logged.",
        ),
    ),
    "AWS::S3::Bucket": (
        ("S3BucketLoggingEnabled", ("CKV_AWS_18",), "Inputs and outputs are read by who may start a run."),
        ("S3BucketReplicationEnabled", ("CKV_AWS_144",), "What is lost is made again by another run."),
        (
            "S3BucketVersioningEnabled",
            ("CKV_AWS_21",),
            "A run refuses an input that changes while it is read.",
        ),
        (
            "S3DefaultEncryptionKMS",
            ("CKV_AWS_145",),
            "Amazon S3 encrypts every object with a key of its own.",
        ),
    ),
    "AWS::Events::Rule": (
        ("", ("Serverless-EventBusDLQ",), "The state machine looks for what a lost event would have told."),
    ),
}


def _functions(stack: ChatStack) -> list[RuntimeFunction]:
    functions = [stack.gateway.handler, stack.gateway.authorizer_handler, stack.heartbeat.handler]
    guard = None if stack.endpoint is None else stack.endpoint.deployment
    return functions if guard is None else [*functions, guard.handler]


def _warnings(stack: ChatStack) -> None:
    if stack.endpoint is None:
        return
    acknowledge(
        stack.endpoint,
        "Annotation::tokenmill:ImageExperimental",
        reason="The pairing of image and host driver stands in docs/unverified.md with the probe "
        "that settles it.",
    )
    if stack.settings.profile == "dev":
        acknowledge(
            stack.endpoint,
            "Annotation::tokenmill:UpdateDowntime",
            reason="A dev stack may be down while its only copy is replaced.",
        )


def _runtime(function: RuntimeFunction) -> None:
    acknowledge(
        function.function,
        "Serverless-LambdaLatestVersion",
        reason="python3.13 is supported and is the runtime that this release of tokenmill was tested with.",
    )


def _front_door(stack: ChatStack) -> None:
    stage = stack.gateway.api.deployment_stage
    acknowledge(
        stage,
        "NIST.800.53.R5-APIGWAssociatedWithWAF",
        "PCI.DSS.321-APIGWAssociatedWithWAF",
        reason="Every route needs a key of 256 random bits and the stage is throttled, so there is "
        "no open form to filter.",
    )
    _in_packs(
        stage,
        "APIGWCacheEnabledAndEncrypted",
        also=("CKV_AWS_120",),
        reason="API Gateway does not cache streamed responses, and no two answers of a model are the same.",
    )
    _in_packs(
        stage,
        "APIGWSSLEnabled",
        reason="The back end is a Lambda function, which API Gateway calls with its own credentials; "
        "a client certificate is for HTTP back ends.",
    )


def _shared_function(function: RuntimeFunction) -> None:
    acknowledge(
        function.function,
        "NIST.800.53.R5-LambdaConcurrency",
        "HIPAA.Security-LambdaConcurrency",
        "CKV_AWS_115",
        reason="The stage's throttle bounds the load, and a reservation would take from an account's "
        "small first quota.",
    )
    _in_packs(
        function.function,
        "LambdaInsideVPC",
        also=("CKV_AWS_117",),
        reason="The function calls AWS services only, by TLS and its own role, and nothing of it "
        "listens in a network.",
    )
    acknowledge(
        function.function,
        "CKV_AWS_173",
        reason="The variables hold names and coefficients and no secret, and Lambda encrypts them "
        "with its own key.",
    )


def _dead_letters(stack: ChatStack) -> None:
    rules = ("NIST.800.53.R5-LambdaDLQ", "HIPAA.Security-LambdaDLQ", "Serverless-LambdaDLQ", "CKV_AWS_116")
    for function in (stack.gateway.handler, stack.gateway.authorizer_handler):
        acknowledge(
            function.function,
            *rules,
            reason="API Gateway waits for every answer, so no event of this function can be lost unseen.",
        )
    beat = "A missed heartbeat is worthless a minute later, and the NoCopies alarm tells of several."
    acknowledge(stack.heartbeat.handler.function, *rules, reason=beat)
    acknowledge(stack.heartbeat.rule, "Serverless-EventBusDLQ", reason=beat)
    guard = None if stack.endpoint is None else stack.endpoint.deployment
    if guard is None:
        return
    lost = (
        "A request of CloudFormation that is lost fails the deployment, and the next event of the stack "
        "resumes what a lost one left suspended."
    )
    acknowledge(guard.handler.function, *rules, reason=lost)
    acknowledge(guard.rule, "Serverless-EventBusDLQ", reason=lost)


def _amazon_keys(stack: ChatStack) -> None:
    for group in (*(function.log_group for function in _functions(stack)), stack.gateway.access_log):
        _in_packs(
            group,
            "CloudWatchLogGroupEncrypted",
            also=("CKV_AWS_158",),
            reason="CloudWatch Logs encrypts with a key of its own, and no prompt, answer or key is logged.",
        )
    if stack.endpoint is not None:
        _in_packs(
            stack.endpoint.endpoint_config,
            "SageMakerEndpointConfigurationKMSKeyConfigured",
            reason="The volumes hold public weights and no caller's data, and SageMaker encrypts "
            "them with a key of its own.",
        )


def _data(stack: ChatStack) -> None:
    for table in (stack.api_keys, stack.conversations):
        acknowledge(
            table.table,
            "NIST.800.53.R5-DynamoDBInBackupPlan",
            "HIPAA.Security-DynamoDBInBackupPlan",
            reason="Point-in-time recovery restores any second of the last 35 days.",
        )
        acknowledge(
            table.table,
            "CKV_AWS_119",
            reason="The AWS managed key of DynamoDB encrypts the table, and access goes through IAM alone.",
        )
    alarms = (
        stack.alarms.slow_first_token,
        stack.alarms.errors,
        stack.alarms.throttles,
        stack.alarms.no_copies,
    )
    for alarm in alarms:
        if alarm is not None:
            acknowledge(
                alarm,
                "NIST.800.53.R5-CloudWatchAlarmAction",
                "HIPAA.Security-CloudWatchAlarmAction",
                reason="Who is told is up to whoever deploys: give ChatStack an alarm_topic.",
            )


def _own_network(stack: ChatStack) -> None:
    acknowledge(
        stack.node.find_child("DeadLetters"),
        "Serverless-SQSRedrivePolicy",
        reason="This queue is itself where undeliverable events of the stack go.",
    )
    roles: list[IConstruct] = [function.role for function in _functions(stack)]
    if stack.endpoint is not None:
        roles.append(stack.endpoint.role)
    for role in roles:
        acknowledge(
            role.node.find_child("DefaultPolicy"),
            "CKV_AWS_109",
            "CKV_AWS_111",
            reason="Lambda and SageMaker make network interfaces in the VPC, which no policy can name.",
        )
    from aws_cdk import aws_ec2 as ec2  # most stacks have no network, and the module is large

    vpc = stack.node.try_find_child("Vpc")
    if not isinstance(vpc, ec2.Vpc):
        return
    _in_packs(
        vpc.node.find_child("FlowLog").node.find_child("IAMRole"),
        "IAMNoInlinePolicy",
        reason="The policy belongs to this one role and is deleted with it; nothing else could attach it.",
    )
    _in_packs(
        vpc,
        "VPCDefaultSecurityGroupClosed",
        reason="Nothing uses the default security group, and closing it takes a function with rights "
        "on every VPC.",
    )
    for subnet in vpc.public_subnets:
        _in_packs(
            subnet.node.find_child("DefaultRoute"),
            "VPCNoUnrestrictedRouteToIGW",
            reason="Only the NAT gateway stands in the public subnets, for weights from the model hub.",
        )


def _in_packs(construct: IConstruct, rule: str, *, reason: str, also: tuple[str, ...] = ()) -> None:
    """Acknowledge a rule that NIST, HIPAA and PCI share under one name."""
    packs = ("NIST.800.53.R5", "HIPAA.Security", "PCI.DSS.321")
    acknowledge(construct, *(f"{pack}-{rule}" for pack in packs), *also, reason=reason)
