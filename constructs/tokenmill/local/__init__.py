"""The local cloud: a real deployment of a CDK app on one machine, with no account.

MiniStack, extended in process, answers the AWS APIs; a model server process keeps the time that the plan
predicts.
"""
