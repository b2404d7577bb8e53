"""Claims about jobs, models of one's own and model units of Amazon Bedrock."""

from __future__ import annotations

from tokenmill.verification.line import Deployment, Line

BEDROCK_JOB_CLAIMS: tuple[Line, ...] = (
    Line(
        id="map-child-answer",
        claim="Who may send task successes to a state machine and to its name/label answers a task in a "
        "child of its distributed map.",
        why="The page of actions names the state machine; a child's is of another ARN.",
        relies="BatchInference's function answers the children that wait for jobs.",
        probe="Answers one waiting child with a role of these rights.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="distillation-sync",
        claim="createModelCustomizationJob.sync of Step Functions passes CustomizationConfig on.",
        why="The page says that the fields are the API's and shows a fine-tuning.",
        relies="ModelCustomization with Distillation.",
        probe="Starts a distillation on an empty bucket, which cannot train, and reads the job or the "
        "refusal.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="custom-model-role",
        claim="CreateCustomModel assumes a role whose trust has no condition on the source.",
        why="The page shows conditions for import jobs only.",
        relies="ModelImport of models of Amazon Nova.",
        probe="Asks for a custom model of an empty folder, and reads what the refusal is about.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="batch-submit-rights",
        claim="CreateModelInvocationJob takes rights on jobs, on the application profile and on the models "
        "behind it.",
        why="The page of actions lists the kinds of resources and not which are asked for together.",
        relies="BatchInference's function.",
        probe="Submits a job with a role of these rights.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="batch-profile-model",
        claim="A batch inference job takes an application inference profile's ARN as its modelId.",
        why="The page on batch inference names system-defined profiles.",
        relies="BatchStack and BatchInference with an InferenceProfile.",
        probe="Submits that job for such a profile.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="batch-role-condition",
        claim="A job assumes a role that is for this account's jobs only (ArnLike on aws:SourceArn), and "
        "calls the model through the profile only.",
        why="The page shows the condition without a profile.",
        relies="The role that BatchInference makes.",
        probe="Runs a hundred records of one short question with such a role.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="batch-name-taken",
        claim="The same client token starts no second job, and another request under a job's name is a "
        "ConflictException.",
        why="The API reference lists the error and not what it is for.",
        relies="BatchInference starts a part's job once, whatever gets lost.",
        probe="Submits that job again with its token and with another one.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="batch-event",
        claim="The event of a batch inference job's end carries batchJobArn, status and batchJobName.",
        why="The page shows an event without a name; the name stands in public code.",
        relies="BatchInference's rule takes events of its own jobs by their names' prefix.",
        probe="Receives every such event while that job runs.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="batch-output",
        claim="A job's answers stand in <output>/<job id>/<input's name>.out, beside manifest.json.out.",
        why="The page shows names in an example only.",
        relies="BatchInference gathers answers from there.",
        probe="Lists what that job wrote.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="batch-records",
        claim="Records of type Converse come back with recordId and modelOutput.usage, and one that failed "
        "with error.errorCode.",
        why="The page shows records of InvokeModel.",
        relies="BatchInference's answers, errors and cost report.",
        probe="Reads that job's output, where one record asks for a negative number of tokens.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="batch-stop-ended",
        claim="StopModelInvocationJob answers ValidationException for a batch job that has ended.",
        why="The API reference lists it beside ConflictException and says of neither what it is for; a "
        "system test of Apache Airflow (example_bedrock_batch_inference.py) met 'State was: Completed'.",
        relies="The local cloud, and the teardown of this command. Stopping a batch execution looks at the "
        "job after either error.",
        probe="Stops that job after its end.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="batch-line-no-record",
        claim="A line of a batch job's input that is no JSON object fails the whole job from Validating, and "
        "no record is answered.",
        why="The API reference says that validation looks at each record, and not what becomes of the "
        "others.",
        relies="BatchInference refuses such inputs beforehand; the local cloud fails such jobs.",
        probe="Runs that job's input again with one line more, a list; stops it when it is validated.",
        deployment=Deployment.BEDROCK_JOBS,
    ),
    Line(
        id="logging-new-role",
        claim="PutModelInvocationLoggingConfiguration answers ValidationException while its role is new, and "
        "nothing else.",
        why="The API reference lists the error and no reason.",
        relies="InvocationLogging tries again for three minutes at it.",
        probe="Turns logging on with a role of a second ago. Where it is on already, nothing is changed; "
        "meanwhile the account's calls are logged into the run's own group.",
        deployment=Deployment.BEDROCK_LOGGING,
    ),
    Line(
        id="logging-read-back",
        claim="GetModelInvocationLoggingConfiguration returns what was put.",
        why="The API reference does not say what it adds or leaves out.",
        relies="Deleting InvocationLogging undoes only what still stands as it was put.",
        probe="Reads it back.",
        deployment=Deployment.BEDROCK_LOGGING,
    ),
    Line(
        id="imported-by-name",
        claim="A role with GetImportedModel on imported-model/* reads a model by its name as soon as its "
        "import has ended.",
        why="The API takes a name; what the right is checked against, and when a name is known, is not said.",
        relies="A run of ModelImport that was stopped takes what it left.",
        probe="Imports Qwen/Qwen2.5-0.5B-Instruct, a gigabyte that goes through this machine, and reads it.",
        deployment=Deployment.BEDROCK_IMPORT,
    ),
    Line(
        id="imported-metric-id",
        claim="Calls of an imported model are counted under its ARN as ModelId.",
        why="The pages on metrics do not show one.",
        relies="metric_dimension of ImportedModel.",
        probe="Asks that model once and lists the metrics.",
        deployment=Deployment.BEDROCK_IMPORT,
    ),
    Line(
        id="custom-by-name",
        claim="A role with GetCustomModel on custom-model/* reads a model by its name.",
        why="The API takes a name; what the right is checked against is not said.",
        relies="A run of ModelCustomization that was stopped takes what it left.",
        probe="Reads the account's first active custom model; without one it says nothing.",
        deployment=Deployment.BEDROCK_DEPLOYMENTS,
    ),
    Line(
        id="custom-on-demand",
        claim="A custom model that was trained parameter-efficiently is deployed on demand, one made by "
        "CreateCustomModel too.",
        why="The API's description asks for units; the guide of Amazon Nova does not.",
        relies="ModelDeployment and its example.",
        probe="Deploys the account's first active custom model; without one it says nothing.",
        deployment=Deployment.BEDROCK_DEPLOYMENTS,
    ),
    Line(
        id="deployment-metric-id",
        claim="Calls of a custom model's deployment are counted under its ARN as ModelId.",
        why="The pages on metrics do not show one.",
        relies="metric_dimension of ModelDeployment.",
        probe="Asks that deployment once and lists the metrics.",
        deployment=Deployment.BEDROCK_DEPLOYMENTS,
    ),
    Line(
        id="deployment-failed-update",
        claim="A deployment whose update has failed keeps its model and answers.",
        why="The API has the status UpdateFailed and does not say what is served then.",
        relies="A rollback of ModelDeployment.",
        probe="Changes it to a model of another base; where the account has none, or that works, it says "
        "nothing.",
        deployment=Deployment.BEDROCK_DEPLOYMENTS,
    ),
    Line(
        id="deployment-name-freed",
        claim="A deployment's name is free as soon as the deployment is gone.",
        why="The API reference calls names unique and does not say for how long.",
        relies="ModelDeployment makes one anew that failed.",
        probe="Deletes it and deploys again under the name.",
        deployment=Deployment.BEDROCK_DEPLOYMENTS,
    ),
    Line(
        id="unit-purchase-rights",
        claim="CreateProvisionedModelThroughput is authorized on the foundation model's ARN with the context "
        "length in its id, and on the units'.",
        why="The page of actions names the kinds of resources; ARNs with a context length are on none.",
        relies="The role that ProvisionedThroughput buys with.",
        probe="Buys one unit by the hour with a role of these rights; never with a commitment.",
        deployment=Deployment.BEDROCK_UNITS,
    ),
    Line(
        id="unit-visible-at-once",
        claim="A purchase is found by its name, has its tags and stands in the list at once.",
        why="No page says that reads are consistent.",
        relies="ProvisionedThroughput finds units by name and tags, and looks for half a minute in vain.",
        probe="Looks at all three right after that purchase.",
        deployment=Deployment.BEDROCK_UNITS,
    ),
    Line(
        id="unit-client-token",
        claim="The same purchase with the same client token buys nothing more and returns the same ARN.",
        why="The API reference says that the request is ignored and not what it returns.",
        relies="ProvisionedThroughput sends a purchase again whose answer was lost.",
        probe="Sends it again while the units are Creating.",
        deployment=Deployment.BEDROCK_UNITS,
    ),
    Line(
        id="unit-name-taken",
        claim="A purchase under the name of units that are Creating or InService is refused, with "
        "ValidationException or ConflictException.",
        why="The API reference calls the name unique and lists no error for it.",
        relies="Names are the lock against buying twice.",
        probe="Asks for the name with another token in both states.",
        deployment=Deployment.BEDROCK_UNITS,
    ),
    Line(
        id="unit-creating-call",
        claim="A call of units that are Creating is answered with ModelNotReadyException.",
        why="The page on errors names it for models that are not ready and no units.",
        relies="The gateway falls back at it, and the local cloud.",
        probe="Calls them.",
        deployment=Deployment.BEDROCK_UNITS,
    ),
    Line(
        id="unit-creating-delete",
        claim="Deleting units that are Creating is a ConflictException.",
        why="The API reference lists the error and no reason.",
        relies="ProvisionedThroughput waits at it, and the local cloud.",
        probe="Asks for it; where it works, the lines that come after say nothing.",
        deployment=Deployment.BEDROCK_UNITS,
    ),
    Line(
        id="unit-invoke-rights",
        claim="Calling units takes a right on their ARN and none on the model.",
        why="The page on the permissions shows a policy on everything.",
        relies="grant_invoke of ProvisionedThroughput.",
        probe="Calls them with a role of each kind.",
        deployment=Deployment.BEDROCK_UNITS,
    ),
    Line(
        id="unit-metric-id",
        claim="Calls of units are counted under their ARN as ModelId.",
        why="The pages on metrics do not show one.",
        relies="The throttle alarm and metric_* of ProvisionedThroughput.",
        probe="Lists the metrics after a call.",
        deployment=Deployment.BEDROCK_UNITS,
    ),
    Line(
        id="unit-gone-error",
        claim="A call of units that were deleted is answered as one of units that never were.",
        why="No page says what a deleted ARN is answered with.",
        relies="The gateway falls back at it.",
        probe="Calls them after their deletion.",
        deployment=Deployment.BEDROCK_UNITS,
    ),
    Line(
        id="unit-token-after-delete",
        claim="A purchase that comes again with its client token after its units were deleted buys nothing.",
        why="The API reference does not say for how long a token counts.",
        relies="The bare functions of ProvisionedThroughput; the deployed one also asks the stack.",
        probe="Sends the first purchase once more.",
        deployment=Deployment.BEDROCK_UNITS,
    ),
    Line(
        id="unit-name-freed",
        claim="The name of deleted units is free at once.",
        why="The API reference calls the name unique and does not say for how long.",
        relies="A replacement that breaks before it makes, and schedules, buy under the same name again.",
        probe="Buys under the name once more.",
        deployment=Deployment.BEDROCK_UNITS,
    ),
    Line(
        id="committed-delete",
        claim="Deleting committed units before the end of their term is refused with ValidationException or "
        "ConflictException.",
        why="The page says that it is not possible and names no error.",
        relies="ProvisionedThroughput retains such units and lets the stack go.",
        probe="Asks for it for units that you own and have tagged tokenmill:verify = delete, because they "
        "would be gone if it worked; without any it says nothing. No commitment is ever bought.",
        deployment=Deployment.COMMITTED_UNITS,
    ),
)
