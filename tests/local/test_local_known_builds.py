"""What the local cloud knows of the library's own builds is what their constructs and programs say."""

from __future__ import annotations

import inspect
import json

from tokenmill.endpoints import model_mirror, serving_image
from tokenmill.local.codebuild.known_builds import MODEL_MIRROR
from tokenmill_runtime.model_mirror.__main__ import Task
from tokenmill_runtime.model_mirror.__main__ import manifest as manifest_of
from tokenmill_runtime.model_mirror.choice import Choice


def test_the_librarys_builds_have_the_variables_that_the_local_cloud_knows() -> None:
    assert (serving_image.DIGEST, model_mirror.MANIFEST) == ("IMAGE_DIGEST", "MIRROR_MANIFEST")
    sources = {module: inspect.getsource(module) for module in (serving_image, model_mirror)}
    for module, names in (
        (serving_image, ("REPOSITORY", "TAG")),
        (model_mirror, ("MIRROR_MODEL", "MIRROR_REVISION", "MIRROR_BUCKET", "MIRROR_LICENCE")),
    ):
        for name in names:
            assert f'"{name}": ' in sources[module]
    task = Task.read(
        {f"MIRROR_{name}": "1" for name in ("MODEL", "REVISION", "LICENCE", "BUCKET", "SECONDS")}
    )
    real = json.loads(manifest_of(task, Choice(kept=(), left_out=(), pickled=False)))
    modelled = MODEL_MIRROR["objects"][1]["body"]
    assert set(modelled) == set(real), "the local manifest has the members of the real one"
