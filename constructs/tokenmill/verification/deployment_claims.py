"""Claims about how endpoints are configured, changed, scaled and deployed."""

from __future__ import annotations

from tokenmill.verification.line import Deployment, Line

DEPLOYMENT_CLAIMS: tuple[Line, ...] = (
    Line(
        id="prefix-routing-components",
        claim="SageMaker takes prefix-aware routing in a configuration whose variant is for components.",
        why="The page on the routing shows a variant with a model and does not name components.",
        relies="Routing.prefix_aware in the Fleet of an LlmEndpoint.",
        probe="Asks for such a configuration; it starts nothing.",
        deployment=Deployment.CONFIG_REQUESTS,
    ),
    Line(
        id="zero-managed-instances",
        claim="SageMaker takes MinInstanceCount 0 for a variant of components in the region.",
        why="The page on scaling to zero lists regions as they were when it was written.",
        relies="LlmEndpoint with capacity.minimum 0.",
        probe="Asks for such a configuration in the region of --region.",
        deployment=Deployment.CONFIG_REQUESTS,
    ),
    Line(
        id="zero-instance-pools",
        claim="SageMaker takes MinInstanceCount 0 for a variant of components with instance pools.",
        why="The page on instance pools and the one on scaling to zero do not name each other.",
        relies="LlmEndpoint with capacity.minimum 0 and Fleet(pools=...).",
        probe="Asks for such a configuration with two GPU types; it starts nothing.",
        deployment=Deployment.CONFIG_REQUESTS,
    ),
    Line(
        id="async-config-fields",
        claim="SageMaker takes RoutingConfig and MetricsConfig beside AsyncInferenceConfig.",
        why="Each is described alone; no page says that they go together.",
        relies="AsyncEndpoint, which renders what VariantEndpoint does and the queue beside it.",
        probe="Asks for such a configuration with a small model.",
        deployment=Deployment.CONFIG_REQUESTS,
    ),
    Line(
        id="reserved-components",
        claim="Instances of a variant for components start in an ML capacity reservation.",
        why="The pages on reservations show variants with a model; reservations are paid ahead.",
        relies="Fleet(reservation=...) with LlmEndpoint.",
        probe="Starts an endpoint in the account's first active reservation for endpoints, and reads how "
        "many of its instances it uses; without a reservation it says nothing.",
        deployment=Deployment.RESERVED_ENDPOINT,
    ),
    Line(
        id="build-variables",
        claim="BatchGetBuilds returns what StartBuild overrode, values of 2,000 characters among it, and the "
        "variables that a build exported, without CodePipeline.",
        why="The API reference lists the fields; exported variables are described with CodePipeline only.",
        relies="BuildRun keeps CloudFormation's address in the build and reads the image's digest from it.",
        probe="Runs a build of a second and reads it back.",
        deployment=Deployment.BUILD_REQUESTS,
    ),
    Line(
        id="build-timeout-event",
        claim="A build that runs out of its time sends a Build State Change event.",
        why="The statuses that the page on the event lists leave TIMED_OUT out.",
        relies="BuildRun answers CloudFormation at that event; otherwise the stack waits for its hour.",
        probe="Lets a build run into its five minutes and waits for the event in a queue; keeps its status.",
        deployment=Deployment.BUILD_REQUESTS,
    ),
    Line(
        id="stack-rollback-event",
        claim="When a stack's update has rolled back, its Stack Status Change event reaches a rule on the "
        "stack's id.",
        why="The page describes the event and promises best-effort delivery.",
        relies="The deployment guard resumes scaling at it after an update that failed.",
        probe="Updates a stack whose last resource fails and waits for the event in a queue.",
        deployment=Deployment.BUILD_REQUESTS,
    ),
    Line(
        id="rollback-holds-again",
        claim="A rollback calls a custom resource that the update had changed again, before it puts back "
        "what reads its attributes.",
        why="The pages describe updates in the order of dependencies and not how rollbacks are ordered.",
        relies="The deployment guard's hold gives the live number of copies to a rollback too.",
        probe="Reads from the events of that stack in which order the two went back.",
        deployment=Deployment.BUILD_REQUESTS,
    ),
    Line(
        id="rollback-attribute",
        claim="What reads an attribute of a custom resource goes back, in a rollback, to what the resource "
        "answers in that rollback, and not to what it had answered before the update.",
        why="The pages say that a rollback restores the template of before, and nothing of attributes.",
        relies="The deployment guard's hold gives the live number of copies to a rollback too.",
        probe="Compares what a parameter of that stack has of the attribute before and after; no two answers "
        "are alike.",
        deployment=Deployment.BUILD_REQUESTS,
    ),
    Line(
        id="response-url-date",
        claim="The ResponseURL that CloudFormation gives a custom resource carries X-Amz-Date, the time of "
        "its sending.",
        why="The pages call it a presigned S3 address and show none; real ones in public issues carry the "
        "date, and nothing says that each is signed when it is sent.",
        relies="Requests that are delivered first after CloudFormation has given them up are refused, so "
        "that they buy no units; and how long one is waited for.",
        probe="Two resources of that stack, one after the other, answer with the date, nothing else of the "
        "address, and the time at which they got it.",
        deployment=Deployment.BUILD_REQUESTS,
    ),
    Line(
        id="tracking-alarm-periods",
        claim="Target tracking on a custom metric scales out after 3 periods of 60 seconds and in after 15.",
        why="The user guide calls the alarms' settings its own and subject to change.",
        relies="The simulation and the local cloud's scaling loop.",
        probe="Puts such a policy on a component and reads the alarms that it made.",
        deployment=Deployment.ZERO_ENDPOINT,
    ),
    Line(
        id="tracking-scale-in-zero",
        claim="Target tracking on metric math takes a component from one copy to none.",
        why="The page on scaling to zero shows predefined metrics only.",
        relies="TokenScaling with capacity.minimum 0.",
        probe="Publishes a metric of 0 for such a policy until the component has no copy.",
        deployment=Deployment.ZERO_ENDPOINT,
    ),
    Line(
        id="update-without-copies",
        claim="SageMaker takes another specification for a component at 0 copies, with a copy count of 0 "
        "beside it, and leaves it at none.",
        why="Creation with 0 is described nowhere, and neither is an update of what has scaled to zero.",
        relies="A deployment while an endpoint with capacity.minimum 0 sleeps; the local cloud takes it.",
        probe="Updates a component that has no copies and reads it back.",
        deployment=Deployment.ZERO_ENDPOINT,
    ),
    Line(
        id="scheduled-zero",
        claim="A scheduled action with a maximum of 0 takes a component to no copies.",
        why="The pages on scheduled scaling show other services, and none a maximum of 0.",
        relies="OfficeHours: outside of its hours nothing runs.",
        probe="Schedules one for a component with one copy and looks at the copies and the activities.",
        deployment=Deployment.ZERO_ENDPOINT,
    ),
    Line(
        id="no-capacity-metric",
        claim="One request to a component without copies counts in NoCapacityInvocationFailures, in periods "
        "of 60 seconds.",
        why="The page's alarm is above 1, over 30 seconds, and does not say how often the metric comes.",
        relies="WakeUp starts a copy after one failed request.",
        probe="Sends one request to such a component and looks for the metric.",
        deployment=Deployment.ZERO_ENDPOINT,
    ),
    Line(
        id="rolling-needs-room",
        claim="A rolling update of a component fails where no instance has room for one batch more.",
        why="An example of AWS shows a third instance during the update; no page says what happens without.",
        relies="LlmEndpoint lets instances grow by a batch above what the copies need, and the local cloud "
        "takes such an update back.",
        probe="Fills an instance with two copies and updates them by one at a time.",
        deployment=Deployment.ROLLOUT_ENDPOINT,
    ),
    Line(
        id="stack-hides-component-rollback",
        claim="CloudFormation reports success for a component's update that SageMaker has taken back.",
        why="Users report it of endpoints in other tools; no page speaks of components.",
        relies="The deployment guard compares what runs, and the local cloud reports success too.",
        probe="Reads how the stack of rolling-needs-room ended.",
        deployment=Deployment.ROLLOUT_ENDPOINT,
    ),
    Line(
        id="plain-update-ends-first",
        claim="Without a deployment policy a component's update ends old copies first, and so needs no more "
        "room.",
        why="The page says how a rolling update goes and not how one without a policy does.",
        relies="UpdatePolicy() for one copy is a downtime and not a refusal.",
        probe="Updates the full instance's component without a policy; keeps the copies meanwhile.",
        deployment=Deployment.ROLLOUT_ENDPOINT,
    ),
    Line(
        id="variant-image-digest",
        claim="DescribeEndpoint names, for each image of a variant, the digest that it resolved to.",
        why="The API reference has the field; whether it carries a digest is not said.",
        relies="The check after a deployment compares digests.",
        probe="Describes an endpoint whose image was named by a tag.",
        deployment=Deployment.VARIANT_ENDPOINT,
    ),
    Line(
        id="canary-one-instance",
        claim="SageMaker refuses a canary of one instance where the variant has one.",
        why="The canary is at most half of the capacity; how half of one is rounded is not said.",
        relies="UpdatePolicy.canary refuses a minimum of 1, and so does the local cloud.",
        probe="Asks for such an update.",
        deployment=Deployment.VARIANT_ENDPOINT,
    ),
    Line(
        id="registered-type-change",
        claim="SageMaker refuses another instance type for a variant that is a registered scalable target.",
        why="The page says to deregister first and not what happens otherwise.",
        relies="VariantEndpoint replaces the endpoint when its instance type changes.",
        probe="Registers a variant and asks for such an update.",
        deployment=Deployment.VARIANT_ENDPOINT,
    ),
    Line(
        id="retained-variant-count",
        claim="With RetainAllVariantProperties in its template, a stack's update keeps the instances that "
        "scaling has set.",
        why="The property is described for the API; CloudFormation's page repeats its name.",
        relies="Deploying a change to a VariantEndpoint or an AsyncEndpoint under load.",
        probe="Scales a stack's variant from one instance to two, deploys another configuration, counts "
        "again.",
        deployment=Deployment.VARIANT_ENDPOINT,
    ),
    Line(
        id="alarm-rollback-reason",
        claim="An endpoint's update that an alarm took back ends as InService, on the old configuration, "
        "with a FailureReason.",
        why="The page on rollbacks shows the status while it goes on; its end is shown without a reason.",
        relies="The deployment guard quotes the reason, and the local cloud ends it so.",
        probe="Raises an alarm while a stack updates its endpoint.",
        deployment=Deployment.VARIANT_ENDPOINT,
    ),
    Line(
        id="stack-hides-endpoint-rollback",
        claim="CloudFormation reports success for an endpoint's update that an alarm took back.",
        why="Users of Terraform found it there; CloudFormation's page does not say.",
        relies="The deployment guard compares the configuration, and the local cloud reports success too.",
        probe="Reads how the stack of alarm-rollback-reason ended.",
        deployment=Deployment.VARIANT_ENDPOINT,
    ),
)
