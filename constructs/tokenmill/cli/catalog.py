"""`tokenmill catalog`: instance types, chips, images and prices that plans are made from, with sources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenmill.cli._output import JsonFlag, console, print_json
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress, TaskID

    from tokenmill.core.user_catalog import RegionCatalog, UserCatalog

SETTINGS_FILE = Path("tokenmill.toml")
PRICING_REGION = "us-east-1"
"""One of the three regions where the Price List API answers, for all of them (botocore, endpoints)."""

SettingsOption = Annotated[
    Path, typer.Option("--settings", help="settings file; the user's catalog stands beside it")
]
RegionOption = Annotated[str | None, typer.Option("--region", help="show prices of this region only")]
FamilyOption = Annotated[
    list[str] | None, typer.Option("--family", help="family or pattern, such as g6 or inf2*; may be repeated")
]
RegionsOption = Annotated[
    list[str] | None,
    typer.Option("--region", help="region to read; may be repeated; default: the settings' regions"),
]
AgainstOption = Annotated[
    Path | None,
    typer.Option("--against", help="folder image_uri_config of sagemaker-core; default: the installed one"),
]
QuotasFlag = Annotated[bool, typer.Option("--quotas", help="also read the account's endpoint quotas")]


def register(app: typer.Typer) -> None:
    """Add the commands.

    Args:
        app: The command line application.
    """
    group = typer.Typer(
        name="catalog",
        help="Show the catalog that plans are made from, or read prices from your AWS account.",
        invoke_without_command=True,
    )
    group.callback()(_default)
    group.command("show")(show)
    group.command("refresh")(refresh)
    group.command("images")(images)
    app.add_typer(group)


def _default(context: typer.Context) -> None:
    """Show the catalog that plans are made from, or read prices from your AWS account."""
    if context.invoked_subcommand is None:
        show()


def show(
    region: RegionOption = None,
    family: FamilyOption = None,
    settings: SettingsOption = SETTINGS_FILE,
    as_json: JsonFlag = False,
) -> None:
    """Print instance types with prices, chips with weight formats, and images, each with date and source."""
    from tokenmill.cli._catalog_view import document, print_document
    from tokenmill.core.user_catalog import find_user_catalog
    from tokenmill.planner.feasibility import check_region

    own = find_user_catalog(settings.parent)
    if region is not None:
        check_region(region, own)
    found = document(own, region=region, families=tuple(family or ()))
    if as_json:
        print_json(found)
    else:
        print_document(console(), found)


def images(
    against: AgainstOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Hold the image catalog against the SageMaker Python SDK's image lists; conflicts exit with 1."""
    from dataclasses import asdict

    from tokenmill.core.sdk_images import compare_images, sdk_folder

    found = compare_images(against or sdk_folder())
    conflicts = [difference for difference in found if difference.is_conflict]
    if as_json:
        rows = [{**asdict(difference), "conflict": difference.is_conflict} for difference in found]
        print_json({"differences": rows, "conflicts": len(conflicts)})
    else:
        from rich.table import Table

        table = Table("image", "differs in", "where", "catalog", "sdk")
        for difference in found:
            table.add_row(
                difference.image, difference.kind, difference.subject, difference.ours, difference.theirs
            )
        out = console()
        out.print(table)
        out.print(f"{len(found)} differences, {len(conflicts)} conflicts")
    if conflicts:
        raise typer.Exit(1)


def refresh(
    region: RegionsOption = None,
    quotas: QuotasFlag = False,
    settings: SettingsOption = SETTINGS_FILE,
    as_json: JsonFlag = False,
) -> None:
    """Read hosting prices from the AWS Price List into tokenmill.catalog.json beside the settings file.

    Needs credentials that may call pricing:GetProducts, and servicequotas:ListServiceQuotas for --quotas.
    Regions that are not read again keep what the file says of them.
    """
    from tokenmill.core.user_catalog import FILE_NAME, find_user_catalog

    regions = tuple(dict.fromkeys(region or _regions(settings)))
    path = settings.parent / FILE_NAME
    old = find_user_catalog(settings.parent)
    read = _read(regions, quotas=quotas, quiet=as_json)
    (old.merged(read) if old else read).write(path)
    if as_json:
        from tokenmill.core._codec import encode

        print_json({"file": str(path), **encode(read)})
        return
    out = console()
    for name, listed in read.regions.items():
        out.print(f"{name}: {len(listed.prices)} hosting prices, published {listed.published}")
        for unclear in listed.unclear:
            out.print(
                f"{name}: {unclear} has more than one price; give --price {unclear}=USD to plan with it"
            )
    out.print(f"wrote {path}; plans made beside it use these prices")


def _regions(settings: Path) -> list[str]:
    from tokenmill.core.settings import load_settings

    if not settings.exists():
        raise TokenmillError(f"no region to read: settings file {settings} does not exist; give --region")
    return [section.region for section in load_settings(settings).values()]


def _read(regions: tuple[str, ...], *, quotas: bool, quiet: bool) -> UserCatalog:
    import datetime
    from functools import partial

    import boto3
    from botocore.exceptions import BotoCoreError, ClientError
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    from tokenmill.core.price_list import SOURCE
    from tokenmill.core.user_catalog import SCHEMA, UserCatalog

    for region in regions:
        if region.startswith("cn-"):
            raise TokenmillError(
                f"prices of region {region!r} are in CNY; give --price TYPE=USD to plan there"
            )
    found = {}
    # progress goes to standard error, so that standard output is the result alone
    screen = Console(stderr=True)
    hidden = quiet or not screen.is_terminal
    try:
        session = boto3.Session()
        with Progress(
            TextColumn("{task.description}"), console=screen, disable=hidden, transient=True
        ) as bar:
            for region in regions:
                say = partial(_describe, bar, bar.add_task(region))
                found[region] = _region(session, region, quotas, say)
    except (BotoCoreError, ClientError) as error:
        raise TokenmillError(_reason(error)) from None
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return UserCatalog(schema=SCHEMA, date=today, source=SOURCE, regions=found)


def _describe(bar: Progress, task: TaskID, text: str) -> None:
    bar.update(task, description=text)


def _region(session: Any, region: str, quotas: bool, say: Callable[[str], None]) -> RegionCatalog:
    from dataclasses import replace

    from tokenmill.core.instances import instance_catalog
    from tokenmill.core.price_list import endpoint_quotas, hosting_catalog

    names = tuple(instance_catalog())
    pricing = session.client("pricing", region_name=PRICING_REGION)
    listed = hosting_catalog(pricing, region, names, lambda n: say(f"{region}: {n} products read"))
    if not quotas:
        return listed
    client = session.client("service-quotas", region_name=region)
    return replace(listed, quotas=endpoint_quotas(client, names, lambda n: say(f"{region}: {n} quotas read")))


def _reason(error: Exception) -> str:
    from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

    if isinstance(error, NoCredentialsError):
        return "no aws credentials found; run `aws configure` or set AWS_PROFILE"
    if isinstance(error, EndpointConnectionError):
        return f"cannot reach aws ({error}); check the network and AWS_ENDPOINT_URL_PRICING"
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        needed = {"GetProducts": "pricing:GetProducts"}.get(
            error.operation_name, f"servicequotas:{error.operation_name}"
        )
        if "AccessDenied" in code:
            return f"these credentials may not call {needed}; allow it in their policy"
        return f"{needed} failed with {code}: {error.response['Error'].get('Message', '')}"
    return f"aws cannot be asked: {error}"
