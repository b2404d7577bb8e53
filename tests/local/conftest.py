"""One cloud for all tests of the local services; each test uses names of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support_local import REGION, close_clients
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
