"""AWS CodeBuild in the local cloud: builds with their states, phases and events; no command is run."""
