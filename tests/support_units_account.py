"""What an account owns, against what a stack declares and what was retained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from support_custom_stack import Resource

RETAINED = "tokenmill:retained"
OWNER = "tokenmill:resource"


def check_account(
    owned: Sequence[Any], resources: Mapping[str, Resource], *, now: float, may_retain: bool
) -> None:
    """Units owned = units declared + units retained, resource by resource."""
    retained = [model for model in owned if RETAINED in model.tags]
    declared = {
        resource.physical_id: (resource.properties["ModelId"], int(resource.properties["ModelUnits"]))
        for resource in resources.values()
    }
    serving: dict[str, list[Any]] = {id: [] for id in declared}
    for model in owned:
        if model not in retained:
            serving.setdefault(model.tags.get(OWNER, f"nobody ({model.name})"), []).append(model)
    seen = {
        id: [(model.model.rpartition("/")[2], model.units, model.status(now)) for model in models]
        for id, models in serving.items()
    }
    for id, models in seen.items():
        assert id in declared, f"undeclared: {id} has {models}; declared are {declared}"
        assert {model for model, _, _ in models} == {declared[id][0]}, f"{id}: {models} != {declared[id]}"
        assert sum(units for _, units, _ in models) == declared[id][1], f"{id}: {models}"
        assert all(status != "Failed" for _, _, status in models), f"{id}: {models}"
    assert may_retain or not retained, f"retained for no reason: {[m.name for m in retained]}"
