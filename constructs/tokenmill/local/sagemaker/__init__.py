"""Amazon SageMaker in the local cloud: its control plane's states and its runtime's streams."""
