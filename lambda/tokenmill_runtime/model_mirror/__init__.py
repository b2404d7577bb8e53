"""Copies one revision of a Hugging Face repository to S3: ``python3 -m tokenmill_runtime.model_mirror``.

It runs in CodeBuild, whose images bring boto3 for every Python (aws/aws-codebuild-docker-images); everything
else is the standard library.
"""
