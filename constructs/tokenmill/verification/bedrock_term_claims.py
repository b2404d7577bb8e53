"""Claims about terms of committed units, options in calls of units, and what a prompt router decides."""

from __future__ import annotations

from tokenmill.verification.line import Deployment, Line

BEDROCK_TERM_CLAIMS: tuple[Line, ...] = (
    Line(
        id="commitment-days",
        claim="A commitment of one month ends 30 days after the purchase, and one of six months 180.",
        why="The pages speak of months, and the API reference of when the term expires.",
        relies="The local cloud's terms, and with them what is retained there and until when.",
        probe="Reads creation and end of the committed units that you own and that are in their first term; "
        "without any it says nothing. No commitment is ever bought.",
        deployment=Deployment.COMMITTED_UNITS,
    ),
    Line(
        id="commitment-renewal",
        claim="Committed units whose term has ended are not committed anew: they stay InService, and their "
        "commitmentExpirationTime in the past.",
        why="The page on deleting says that a Provisioned Throughput renews at the end of each term, and "
        "lets only those by tokens be kept from it; an older version, and the pages on units, do not say so.",
        relies="ProvisionedThroughput gives such units back when its stack lets go of them, and retains them "
        "for a further term otherwise; its alarm says that they cost on until somebody deletes them.",
        probe="Reads the end of the units that you own and that are older than the longest first term; "
        "without any it says nothing.",
        deployment=Deployment.COMMITTED_UNITS,
    ),
    Line(
        id="unit-call-options",
        claim="Units have no service tier and no faster version: a call that names one is refused with "
        "ValidationException, or answered as one that names none.",
        why="The pages on tiers and on latency list models, and name no provisioned throughput.",
        relies="The gateway leaves both out of calls of units, whatever its options say.",
        probe="Asks the first units that you own and that answer Converse for at most 16 tokens, plainly and "
        "with each option; without any it says nothing.",
        deployment=Deployment.COMMITTED_UNITS,
    ),
    Line(
        id="router-cheaper-model",
        claim="With a difference of 10, and whichever of its models is the fallback, a router answers easy "
        "questions with the cheaper one.",
        why="The page's one example has the cheaper model as the fallback and switches to one that is 10 % "
        "better; how far a cheaper one may fall behind a dearer fallback it does not say.",
        relies="The example of PromptRouter saves by it; the local cloud routes short prompts so, by price.",
        probe="Asks both routers of Nova Lite and Nova Pro three questions that anybody can answer, and "
        "reads in the traces which model did.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
    Line(
        id="router-trace-model",
        claim="A router's answer names the model that gave it in trace.promptRouter.invokedModelId, by the "
        "ARN that the router was made with.",
        why="The API's pattern allows a foundation model's ARN and a profile's; no page says which it is.",
        relies="Who reads from it what a question cost; the local cloud's trace.",
        probe="Compares the traces of those answers with the router's models.",
        deployment=Deployment.BEDROCK_MODELS,
    ),
)
