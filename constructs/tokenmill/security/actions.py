"""Every IAM action that the library grants, named by purpose; a test asserts that nothing else appears."""

from __future__ import annotations

# "Actions, resources, and condition keys for Amazon SageMaker": InvokeEndpoint takes the endpoint, and the
# inference component where the call names one.
ENDPOINT_INVOKE = ("sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream")
COMPONENT_READ = ("sagemaker:DescribeInferenceComponent",)
ENDPOINT_READ = ("sagemaker:DescribeEndpoint",)

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
# "Visualize Lambda function invocations using AWS X-Ray".
FUNCTION_TRACES = ("xray:PutTraceSegments", "xray:PutTelemetryRecords")

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

# "Actions, resources, and condition keys for AWS CodeBuild"; the end of a build's log says why it failed.
BUILD_CONTROL = (
    "codebuild:BatchGetBuilds",
    "codebuild:ListBuildsForProject",
    "codebuild:StartBuild",
    "codebuild:StopBuild",
)
BUILD_LOG_READ = ("logs:GetLogEvents",)
# "Allow CodeBuild to interact with other AWS services" (AWS CodeBuild user guide): the parts of its policy
# that a build with its own log group and a source in S3 uses.
BUILD_LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")
BUILD_SOURCE_READ = ("s3:GetObject", "s3:GetObjectVersion")
BUILD_SECRET_READ = ("secretsmanager:GetSecretValue",)
BUILD_SECRET_KEY = ("kms:Decrypt",)

# "Amazon S3 multipart upload API permissions"; what is there already is listed and read back for its hash.
MIRROR_WRITE = ("s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject")
MIRROR_LIST = ("s3:ListBucket",)
MIRROR_UPLOADS = ("s3:ListBucketMultipartUploads",)
# SageMaker loads a model's artifacts with the execution role ("CreateModel API: Execution Role Permissions").
MODEL_READ = ("s3:GetObject",)
MODEL_LIST = ("s3:ListBucket",)
MODEL_KEY_READ = ("kms:Decrypt",)

# "IAM permissions for pushing an image to a private repository" (Amazon ECR user guide), and to find a tag.
IMAGE_PUSH = (
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:DescribeImages",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
)
IMAGE_DIGEST_READ = ("ecr:DescribeImages",)

# "IAM policies for Amazon SageMaker" (AWS Step Functions developer guide), "Run a Job (.sync)".
TRAINING_JOB_RUN = (
    "sagemaker:CreateTrainingJob",
    "sagemaker:DescribeTrainingJob",
    "sagemaker:StopTrainingJob",
)
TRAINING_JOB_TAG = ("sagemaker:AddTags",)
TRAINING_JOB_LIST_TAGS = ("sagemaker:ListTags",)
JOB_EVENTS = ("events:DescribeRule", "events:PutRule", "events:PutTargets")
PASS_ROLE = ("iam:PassRole",)
CALL_FUNCTION = ("lambda:InvokeFunction",)
# "Logging in CloudWatch Logs" and "Trace Step Functions executions with AWS X-Ray" (AWS Step Functions).
STATE_MACHINE_LOGS = (
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
)
STATE_MACHINE_TRACES = (
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
)

# "CreateTrainingJob API: Execution Role Permissions" (Amazon SageMaker developer guide): a channel and the
# output; HeadObject says 404 instead of 403 only to who may list.
WEIGHTS_READ = ("s3:GetObject",)
ARTIFACT_WRITE = ("s3:AbortMultipartUpload", "s3:PutObject")
MANIFEST_WRITE = ("s3:GetObject", "s3:PutObject")
MANIFEST_READ = ("s3:GetObject",)
ARTIFACT_LIST = ("s3:ListBucket",)

# "IAM policies for calling Amazon SageMaker" and "IAM policies for using Distributed Map states" (AWS Step
# Functions developer guide); tags on the job take AddTags.
TRANSFORM_JOB_RUN = (
    "sagemaker:AddTags",
    "sagemaker:CreateTransformJob",
    "sagemaker:DescribeTransformJob",
    "sagemaker:StopTransformJob",
)
TRANSFORM_JOB_LIST_TAGS = ("sagemaker:ListTags",)
MAP_RUN_START = ("states:StartExecution",)
MAP_RUN_WATCH = ("states:DescribeExecution", "states:StopExecution")
MAP_RUN_REDRIVE = ("states:RedriveExecution",)
JOB_START = ("states:StartExecution",)
JOB_WATCH = ("states:DescribeExecution",)
# Batch transform reads its input and writes its output with the model's role ("CreateModel API: Execution
# Role Permissions"); so do the functions of a fan-out with theirs.
BATCH_READ = ("s3:GetObject",)
BATCH_WRITE = ("s3:AbortMultipartUpload", "s3:PutObject")
BATCH_LIST = ("s3:ListBucket",)
# The same page: what SageMaker writes with a customer's key.
BATCH_OUTPUT_KEY = ("kms:Encrypt",)

# "Actions, resources, and condition keys" for Amazon SageMaker, AWS Application Auto Scaling and AWS
# CloudFormation: what the guard of a deployment reads, counts and suspends.
STACK_READ = ("cloudformation:DescribeStacks",)
ENDPOINT_READ = ("sagemaker:DescribeEndpoint",)
# "Permissions required for API actions on target services" (Application Auto Scaling user guide).
ENDPOINT_CONFIG_READ = ("sagemaker:DescribeEndpointConfig",)
COMPONENT_COUNT = ("sagemaker:UpdateInferenceComponentRuntimeConfig",)
INSTANCE_COUNT = ("sagemaker:UpdateEndpointWeightsAndCapacities",)
SMOKE_PROMPT = ("sagemaker:InvokeEndpoint",)
SCALABLE_TARGET_LIST = ("application-autoscaling:DescribeScalableTargets",)
SCALABLE_TARGET_SUSPEND = ("application-autoscaling:RegisterScalableTarget",)
SCALABLE_TARGET_MARK = (
    "application-autoscaling:ListTagsForResource",
    "application-autoscaling:TagResource",
    "application-autoscaling:UntagResource",
)

# "Create a service role for importing pre-trained models" and "Create a service role for model customization"
# (Amazon Bedrock user guide).
IMPORT_READ = ("s3:GetObject",)
IMPORT_LIST = ("s3:ListBucket",)
CUSTOMIZATION_READ = ("s3:GetObject",)
CUSTOMIZATION_WRITE = ("s3:GetObject", "s3:PutObject")
CUSTOMIZATION_LIST = ("s3:ListBucket",)
# "Encryption of Amazon Nova model customization jobs and artifacts", "Using customer managed key (CMK)".
CUSTOM_MODEL_KEY = ("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey")
# "Actions, resources, and condition keys for Amazon Bedrock"; tags on what is made take TagResource.
MODEL_IMPORT_RUN = ("bedrock:CreateModelImportJob", "bedrock:GetModelImportJob", "bedrock:TagResource")
IMPORTED_MODEL_READ = ("bedrock:GetImportedModel",)
CUSTOM_MODEL_CREATE = ("bedrock:CreateCustomModel", "bedrock:TagResource")
CUSTOM_MODEL_READ = ("bedrock:GetCustomModel",)
# "CreateCustomModel": what the caller needs on a model package of SageMaker.
MODEL_PACKAGE_READ = ("sagemaker:AccessModelPackageData", "sagemaker:DescribeModelPackage")
# "IAM policies for calling Amazon Bedrock" (AWS Step Functions developer guide), .sync.
CUSTOMIZATION_START = ("bedrock:CreateModelCustomizationJob", "bedrock:TagResource")
CUSTOMIZATION_WATCH = ("bedrock:GetModelCustomizationJob", "bedrock:StopModelCustomizationJob")
TEACHER_INVOKE = ("bedrock:InvokeModel",)
# "Preventing changes to existing parameters using ssm:Overwrite" (AWS Systems Manager user guide).
ARTIFACT_VERSION_READ = ("ssm:GetParameter",)
ARTIFACT_VERSION_LIST = ("ssm:GetParametersByPath",)
ARTIFACT_VERSION_CREATE = ("ssm:PutParameter",)
# On-demand deployments of custom models.
MODEL_DEPLOYMENT_CREATE = ("bedrock:CreateCustomModelDeployment",)
MODEL_DEPLOYMENT_OWN = (
    "bedrock:DeleteCustomModelDeployment",
    "bedrock:GetCustomModelDeployment",
    "bedrock:ListTagsForResource",
    "bedrock:TagResource",
    "bedrock:UntagResource",
    "bedrock:UpdateCustomModelDeployment",
)

# "Prerequisites for Provisioned Throughput" (Amazon Bedrock user guide): a purchase is of a foundation model
# or a custom model; what was bought has an id that Bedrock makes up; a list takes no resource.
UNITS_BUY = ("bedrock:CreateProvisionedModelThroughput",)
UNITS_LIST = ("bedrock:ListProvisionedModelThroughputs",)
UNITS_CHANGE = (
    "bedrock:DeleteProvisionedModelThroughput",
    "bedrock:GetProvisionedModelThroughput",
    "bedrock:ListTagsForResource",
    "bedrock:TagResource",
    "bedrock:UntagResource",
    "bedrock:UpdateProvisionedModelThroughput",
)
# "Actions, resources, and condition keys" for Service Quotas, AWS Systems Manager, Amazon CloudWatch and AWS
# CloudFormation: how many units may be bought, what was kept, an alarm that stays, whether it is gone.
UNITS_QUOTA_READ = ("servicequotas:GetServiceQuota", "servicequotas:ListServiceQuotas")
UNITS_LEDGER = ("ssm:DeleteParameter", "ssm:GetParameter", "ssm:PutParameter")
UNITS_LEDGER_LIST = ("ssm:GetParametersByPath",)
UNITS_HANDLE_READ = ("ssm:GetParameter",)
UNITS_ALARM = ("cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm")
UNITS_USE_READ = ("cloudwatch:GetMetricData",)
UNITS_STACK_READ = ("cloudformation:DescribeStackResource", "cloudformation:DescribeStacks")
# "StartExecution" (AWS Step Functions): the function of Bedrock's resources starts what waits for them.
WAITER_START = ("states:StartExecution",)

# "Set up permissions to use Amazon Bedrock Guardrails": who has texts assessed, and decrypts a guardrail with
# a key of its own.
GUARDRAIL_APPLY = ("bedrock:ApplyGuardrail",)
GUARDRAIL_KEY_USE = ("kms:Decrypt",)

# "Monitor model invocation using CloudWatch Logs and Amazon S3" (Amazon Bedrock user guide): what Bedrock
# writes with, and "Actions, resources, and condition keys for Amazon Bedrock" for the setting itself.
INVOCATION_LOG_WRITE = ("logs:CreateLogStream", "logs:PutLogEvents")
INVOCATION_LOG_OBJECT = ("s3:PutObject",)
INVOCATION_LOG_KEY = ("kms:GenerateDataKey",)
INVOCATION_LOGGING = (
    "bedrock:DeleteModelInvocationLoggingConfiguration",
    "bedrock:GetModelInvocationLoggingConfiguration",
    "bedrock:PutModelInvocationLoggingConfiguration",
)
INVOCATION_LOGGING_OWNER = ("ssm:DeleteParameter", "ssm:GetParameter", "ssm:PutParameter")
# "Prerequisites for Prompt management" (Amazon Bedrock user guide): Converse renders a prompt's version.
PROMPT_USE = ("bedrock:GetPrompt", "bedrock:RenderPrompt")
PROMPT_KEY_USE = ("kms:Decrypt",)

# "Required permissions for batch inference" and "Create a custom service role for batch inference" (Amazon
# Bedrock user guide): who submits jobs, and the role that a job reads, calls and writes with.
BATCH_JOB_SUBMIT = ("bedrock:CreateModelInvocationJob",)
BATCH_JOB_FOLLOW = ("bedrock:GetModelInvocationJob", "bedrock:TagResource")
BATCH_JOB_LIST = ("bedrock:ListModelInvocationJobs",)
# "Stop a batch inference job" (the same guide); whether the execution that a job is of was stopped.
BATCH_JOB_STOP = ("bedrock:StopModelInvocationJob",)
BATCH_RUN_LOOK = ("states:DescribeExecution",)
BATCH_JOB_FILES = ("s3:GetObject", "s3:PutObject")
# "Creating granular permissions" (AWS Step Functions): a callback names the state machine of its task.
TASK_ANSWER = ("states:SendTaskSuccess",)
