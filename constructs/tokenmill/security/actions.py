"""Every IAM action that the library grants, named by purpose; a test asserts that nothing else appears."""

from __future__ import annotations

# "Actions, resources, and condition keys for Amazon SageMaker": InvokeEndpoint takes the endpoint, and the
# inference component where the call names one.
ENDPOINT_INVOKE = ("sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream")
COMPONENT_READ = ("sagemaker:DescribeInferenceComponent",)

# "Prerequisites for inference" (Amazon Bedrock user guide): Converse needs InvokeModel, ConverseStream needs
# InvokeModelWithResponseStream; there is no action called Converse.
BEDROCK_INVOKE = ("bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream")

# "CreateModel API: Execution Role Permissions" (Amazon SageMaker developer guide).
IMAGE_PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
IMAGE_LOGIN = ("ecr:GetAuthorizationToken",)
CONTAINER_LOGS = (
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:DescribeLogStreams",
    "logs:PutLogEvents",
)
CONTAINER_METRICS = ("cloudwatch:PutMetricData",)
CONTAINER_NETWORK = (
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
)
VOLUME_KEY = ("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext")

KEY_TABLE_READ = ("dynamodb:GetItem",)
CONVERSATION_READ = ("dynamodb:GetItem", "dynamodb:Query")
# Turns are added and never changed; DynamoDB itself deletes them after their time to live.
CONVERSATION_WRITE = ("dynamodb:PutItem",)
# "AWS KMS keys in DynamoDB": a principal that reads needs to decrypt, one that writes needs data keys too.
TABLE_KEY_READ = ("kms:Decrypt", "kms:DescribeKey")
TABLE_KEY_WRITE = ("kms:Encrypt", "kms:GenerateDataKey")

# "Giving Lambda functions access to resources in an Amazon VPC": the managed policy's actions.
FUNCTION_NETWORK = (
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
)
# "Securing Lambda environment variables" needs Decrypt; a message to an encrypted queue needs a data key too.
FUNCTION_KEY = ("kms:Decrypt", "kms:GenerateDataKey")
FUNCTION_LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")

# "Capture data from real-time endpoint" (Amazon SageMaker developer guide): objects are added, never read;
# "Actions, resources, and condition keys for AWS KMS": writing with a key takes a data key of it.
CAPTURE_WRITE = ("s3:PutObject",)
CAPTURE_KEY = ("kms:GenerateDataKey",)
ENDPOINT_INVOKE_ASYNC = ("sagemaker:InvokeEndpointAsync",)

# "Using Lambda with Amazon SQS"; a request that waits becomes visible again when the function says.
QUEUE_TAKE = (
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
)
QUEUE_SEND = ("sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage")
# HeadObject needs GetObject, and says 404 instead of 403 only to who may list ("HeadObject", Amazon S3).
ANSWERS_KEEP = ("s3:GetObject", "s3:PutObject")
ANSWERS_READ = ("s3:GetObject",)
ANSWERS_LIST = ("s3:ListBucket",)
# "Using server-side encryption with AWS KMS keys": an upload needs a data key, a download decrypts it.
OBJECT_KEY_WRITE = ("kms:Decrypt", "kms:GenerateDataKey")
OBJECT_KEY_READ = ("kms:Decrypt",)

# "Complete the prerequisites" (asynchronous inference, Amazon SageMaker AI developer guide).
ASYNC_REQUEST_READ = ("s3:GetObject",)
ASYNC_ANSWER_WRITE = ("s3:AbortMultipartUpload", "s3:PutObject")
ASYNC_BUCKET_LIST = ("s3:ListBucket",)
ASYNC_NOTIFY = ("sns:Publish",)
ASYNC_REQUEST_WRITE = ("s3:PutObject",)
