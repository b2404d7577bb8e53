"""Build hook: a wheel (also an editable one) carries the gateway's vendored libraries."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class VendorGatewayHook(BuildHookInterface[Any]):
    """Fills the gateway layer before the wheel is packed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Vendor the pinned libraries.

        Args:
            version: "standard" or "editable".
            build_data: What hatchling packs; unchanged, the folder is named as an artifact in pyproject.toml.
        """
        script = Path(self.root) / "tools" / "vendor_gateway.py"
        spec = importlib.util.spec_from_file_location("vendor_gateway", script)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.vendor()
