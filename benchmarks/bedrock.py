"""What one of everything for Amazon Bedrock adds to a synth.

Run as a module it prints the figures as JSON, with what its functions cost to start.
"""

from __future__ import annotations

import json

from benchmarks.sagemaker import added_seconds, handler_costs

# Functions that no stack has without Bedrock.
FUNCTIONS = ("BATCH_INFERENCE", "BEDROCK_RESOURCES")


def synth_seconds(rounds: int) -> float:
    """Return CPU seconds over an empty stack's synth, taken in turns.

    Args:
        rounds: Runs of each.
    """
    return added_seconds("bedrock_app", ("all",), rounds)["all"]


if __name__ == "__main__":
    handlers = [{"name": name, "ms": ms, "mib": mib} for name, ms, mib in handler_costs(3, FUNCTIONS)]
    print(json.dumps({"synth": synth_seconds(3), "handlers": handlers}, indent=1))
