"""What the local cloud adds to CloudWatch: metrics from log lines, and alarms that are really evaluated."""
