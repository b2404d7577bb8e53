"""A function's code has what it imports, and nothing else of the runtime."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_lambda as lambda_

from tokenmill.gateway.layer import LAYER_FOLDER
from tokenmill.security import FunctionHosting
from tokenmill.security.code import runtime_code
from tokenmill_runtime import functions
from tokenmill_runtime.functions import FunctionParts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = "tokenmill_runtime"
HANDLERS = {name: value for name, value in vars(functions).items() if isinstance(value, FunctionParts)}


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The staged code of each function, by its name."""
    outdir = tmp_path_factory.mktemp("assembly")
    app = cdk.App(outdir=str(outdir), analytics_reporting=False)
    stack = cdk.Stack(app, "Functions")
    for name, parts in HANDLERS.items():
        code = runtime_code(parts.parts)
        runtime = lambda_.Runtime.PYTHON_3_13
        lambda_.Function(stack, name, code=code, runtime=runtime, handler=parts.handler)
    template = app.synth().get_stack_by_name("Functions").template
    by_handler = {parts.handler: name for name, parts in HANDLERS.items()}
    return {
        by_handler[resource["Properties"]["Handler"]]: outdir
        / f"asset.{resource['Properties']['Code']['S3Key'].removesuffix('.zip')}"
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
    }


def imports(path: Path) -> Iterator[str]:
    """Yield the runtime modules that a file imports, in functions too, but not for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checked = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    skipped = {id(inner) for node in checked for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == PACKAGE)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)


@pytest.mark.parametrize("path", HANDLERS)
def test_every_import_of_the_runtime_is_in_the_code(path: str, assets: dict[str, Path]) -> None:
    """What a function imports late would only fail in front of a caller."""
    root = assets[path]
    missing = {
        f"{file.relative_to(root)}: {module}"
        for file in root.rglob("*.py")
        for module in imports(file)
        if not (root / (module.replace(".", "/") + ".py")).is_file()
        and not (root / module.replace(".", "/") / "__init__.py").is_file()
    }
    assert missing == set()


@pytest.mark.parametrize("path", HANDLERS)
def test_the_handler_can_be_imported_from_its_code_alone(path: str, assets: dict[str, Path]) -> None:
    """Only the code, the layer and boto3 are on the module path, as in Lambda."""
    module, _, attribute = HANDLERS[path].handler.replace(":", ".").rpartition(".")
    site = sysconfig.get_paths()["purelib"]
    code = (
        f"import sys; sys.path[:0] = [{str(assets[path])!r}, {str(LAYER_FOLDER / 'python')!r}, {site!r}]; "
        f"import importlib; m = importlib.import_module({module!r}); assert callable(m.{attribute}); "
        f"print(m.__file__)"
    )
    found = subprocess.run(
        [sys.executable, "-B", "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(str(assets[path]))


@pytest.mark.parametrize(("path", "parts"), HANDLERS.items(), ids=list(HANDLERS))
def test_nothing_else_is_in_the_code(path: str, parts: FunctionParts, assets: dict[str, Path]) -> None:
    """A change to another function does not redeploy this one, and no .pyc changes the hash."""
    root = assets[path]
    files = {str(file.relative_to(root / PACKAGE)) for file in root.rglob("*") if file.is_file()}
    allowed = ("__init__.py", *parts.parts)
    assert [name for name in sorted(files) if not name.startswith(allowed)] == []
    assert [name for name in files if "__pycache__" in name or name.endswith(".pyc")] == []
    assert {item.name for item in root.iterdir()} == {PACKAGE}


def test_lambda_can_execute_the_wrapper_script(assets: dict[str, Path]) -> None:
    """The file's mode travels with the asset."""
    assert os.access(assets["GATEWAY"] / PACKAGE / "streaming" / "run.sh", os.X_OK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_retention_days": 8}, "log_retention_days is 8; allowed are 1, 3, 5, 7, 14, 30, 60, 90, "),
        ({"security_groups": ("sg",)}, "security_groups are given without vpc; give the vpc they belong to"),
        ({"reserved_concurrency": 0}, "reserved_concurrency is 0; it must be 1 or more, or leave it out"),
    ],
)
def test_fails_for_hosting_that_lambda_would_refuse(changes: dict[str, Any], message: str) -> None:
    """Before anything is created."""
    with pytest.raises(ValueError) as caught:
        FunctionHosting(**changes)
    assert str(caught.value).startswith(message)


def test_fails_when_a_part_is_not_in_the_runtime() -> None:
    """A broken installation is told at synth, not by a function that cannot start."""
    with pytest.raises(
        FileNotFoundError, match="tokenmill_runtime has no 'nothing.py' in .*; reinstall tokenmill"
    ):
        runtime_code(("nothing.py",))
