"""What a template and the function of a batch inference agree on; a synthesis loads no more of it."""

from __future__ import annotations

from typing import Final

VARIABLE: Final = "TOKENMILL_BATCH_INFERENCE"
"""The environment variable with the settings."""
FORMS: Final = ("chat", "converse")
"""What a record's body may be: a chat completion's request, or Converse's."""
EVENT_TYPE: Final = "Batch Inference Job State Change"
"""What EventBridge calls the news of a job."""
ENDED: Final = ("Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired")
"""States that a job does not leave ("ModelInvocationJobSummary", Amazon Bedrock API Reference)."""
STOP_EVENT: Final = "Step Functions Execution Status Change"
"""What EventBridge calls the news of an execution."""
STOPPED: Final = ("ABORTED", "TIMED_OUT")
"""How an execution ends that was not left to end by itself."""
