"""One cloud for all tests of the local services; each test uses names of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support_local import REGION, close_clients
from support_sagemaker_cloud import Api
from tokenmill.local.cloud_process import CloudProcess

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudProcess]:
    process = CloudProcess(tmp_path_factory.mktemp("cloud"), port=0, region=REGION, startup_seconds=0.05)
    try:
        process.wait()
        yield process
    finally:
        close_clients(process.endpoint)
        process.stop()


@pytest.fixture
def api(cloud: CloudProcess) -> Iterator[Api]:
    """The cloud with a name of the test's own, whose faults and components go afterwards."""
    made = Api(cloud)
    yield made
    made.faults(insufficient_capacity=[], unhealthy_images=[], failing_images=[], latency_ms={})
    for found in made.sagemaker.list_inference_components(NameContains=made.name)["InferenceComponents"]:
        made.sagemaker.delete_inference_component(InferenceComponentName=found["InferenceComponentName"])
