"""The copy of a model into MiniStack's S3, which is not ours, with parts of their real size."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from support_local import REGION, client
from support_mirror import MODEL, PLACE, REVISION, Cdn, Hub, content
from tokenmill_runtime.model_mirror import __main__ as program
from tokenmill_runtime.model_mirror.hub import Clock
from tokenmill_runtime.model_mirror.parts import PART_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tokenmill.local.cloud_process import CloudProcess


def test_an_interrupted_copy_is_finished(
    cloud: CloudProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An upload that another run left behind, with its first part: the rest is sent, and all is hashed."""
    s3, bucket = client(cloud.endpoint, "s3"), f"mirror-{uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    weights = content(1, PART_BYTES + 4321)
    key = f"{PLACE}/model.safetensors"
    left = s3.create_multipart_upload(Bucket=bucket, Key=key)
    s3.upload_part(Bucket=bucket, Key=key, UploadId=left["UploadId"], PartNumber=1, Body=weights[:PART_BYTES])
    cdn = Cdn()
    hub = Hub(cdn)
    try:
        hub.add("config.json", b"{}")
        hub.add("model.safetensors", weights, large=True)
        variables = {
            "MIRROR_MODEL": MODEL,
            "MIRROR_REVISION": REVISION,
            "MIRROR_LICENCE": "apache-2.0",
            "MIRROR_BUCKET": bucket,
            "MIRROR_SECONDS": "600",
            "HF_ENDPOINT": hub.url,
            "AWS_ENDPOINT_URL": cloud.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        code = program.main([str(tmp_path / "result")], variables, Clock())
        assert code == 0, capsys.readouterr().out
        assert [asked for path, asked, _ in cdn.seen if path == "model.safetensors"] == [
            f"bytes={PART_BYTES}-"
        ]
    finally:
        hub.close()
        cdn.close()
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == weights
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    found = {item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert f"mirrors/{MODEL}/{REVISION}/manifest.json" in found
