"""What runs in the thin serving image around vLLM: standard library alone, no AWS call."""
