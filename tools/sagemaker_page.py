"""Write what each option of the SageMaker constructs renders to into docs/sagemaker.md, from the code itself.

Every option is built twice, without it and with it; the page shows the difference between the two templates.

Usage: python tools/sagemaker_page.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "sagemaker.md"
LONGEST_VALUE = 160

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import aws_cdk as cdk


def page() -> str:
    """Return the page with its generated parts."""
    os.environ.setdefault("CDK_VALIDATION", "false")
    text = PAGE.read_text(encoding="utf-8")
    from tools.sagemaker_options import CONSTRUCTS

    for name, table in (("changes", changes()), ("variables", variables())):
        text = _placed(text, name, table)
    for construct in CONSTRUCTS:
        text = _placed(
            text, construct.name, "\n".join(_option(construct, item) for item in construct.options)
        )
    return text


def changes() -> str:
    """Return the table of what changed, by mode, and the mechanism."""
    from tokenmill.endpoints.update_changes import change_table

    lines = ["| what changed | components | single variant |", "|---|---|---|"]
    lines += [f"| {row.what} | {row.components} | {row.variant} |" for row in change_table()]
    return "\n".join(lines)


def variables() -> str:
    """Return what each engine option becomes in the environment of each image."""
    from tools.sagemaker_options import ENGINE_OPTIONS, IMAGES, environment_of

    lines = ["| option | " + " | ".join(f"`{key}`" for key in IMAGES) + " |", "|---|" + "---|" * len(IMAGES)]
    for source in ENGINE_OPTIONS:
        cells = [environment_of(key, source) for key in IMAGES]
        lines.append(f"| `{source}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _placed(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->\n"
    before, found, rest = text.partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"{PAGE.name} has no place for {name}: {begin.strip()} … {end.strip()}")
    return f"{before}{begin}\n{content}\n\n{end}{rest.partition(end)[2]}"


def _option(construct: Any, source: str) -> str:
    plain, changed = template(construct.build, "{}"), template(construct.build, f"dict({source})")
    lines = list(differences(plain, changed))
    return f"`{source}`\n\n```text\n" + "\n".join(lines) + "\n```\n"


def template(build: Callable[[cdk.Stack, dict[str, Any]], object], source: str) -> dict[str, Any]:
    """Return the resources of a stack with one construct.

    Args:
        build: Makes the construct with further keywords.
        source: The keywords, as Python says them.
    """
    import aws_cdk as cdk
    from tools.sagemaker_options import namespace

    app = cdk.App(context={"aws:cdk:enable-path-metadata": False}, analytics_reporting=False)
    stack = cdk.Stack(app, "s", env=cdk.Environment(region="us-east-1", account="123456789012"))
    build(stack, eval(source, namespace(stack)))
    resources: dict[str, Any] = app.synth().get_stack_by_name("s").template.get("Resources", {})
    return resources


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Yield what one template has and the other has not, resource by resource.

    Args:
        before: Resources without the option.
        after: Resources with it.
    """
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            yield f"+ {new['Type']}"
        elif new is None and old is not None:
            yield f"- {old['Type']}"
        elif old is not None and new is not None:
            found = list(_changed("", old.get("Properties", {}), new.get("Properties", {})))
            if found:
                yield f"{new['Type']}"
                yield from (f"  {line}" for line in found)


def _changed(path: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict) and not _is_reference(old) and not _is_reference(new):
        for key in sorted(old.keys() | new.keys()):
            place = f"{path}.{key}" if path else key
            if key not in new:
                yield f"{place} goes"
            elif key not in old:
                yield f"{place} = {_short(new[key])}"
            else:
                yield from _changed(place, old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _changed(f"{path}[{index}]", one, other)
    elif isinstance(old, list) and isinstance(new, list):
        for item in new:
            if item not in old:
                yield f"{path} + {_short(item)}"
    else:
        yield f"{path} = {_short(new)}"


def _is_reference(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith(("Fn::", "Ref"))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} …"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
