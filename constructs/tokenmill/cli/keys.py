"""`tokenmill keys`: API keys of a deployed gateway. The secret is shown once; only its hash is stored."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenmill.cli._output import JsonFlag, print_json
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.cli._key_store import KeyStore, StoredKey

Stack = Annotated[str, typer.Argument(help="section of the settings file")]
Settings = Annotated[Path, typer.Option(help="settings file")]
Label = Annotated[str, typer.Option(help="what the key is for")]
DEFAULT_SETTINGS = Path("tokenmill.toml")


def register(app: typer.Typer) -> None:
    """Add `keys` to the command line.

    Args:
        app: The application.
    """
    keys = typer.Typer(help="API keys of a deployed gateway.", no_args_is_help=True)
    keys.command("create")(create)
    keys.command("rotate")(rotate)
    keys.command("revoke")(revoke)
    keys.command("list")(list_keys)
    app.add_typer(keys, name="keys")


def create(
    stack: Stack = "chat", settings: Settings = DEFAULT_SETTINGS, label: Label = "", as_json: JsonFlag = False
) -> None:
    """Make an API key and show it once."""
    key, stored = _store(settings, stack).create(label=label)
    _show_new(key, stored, as_json=as_json, replaces="", grace=0)


def rotate(
    stack: Stack = "chat",
    settings: Settings = DEFAULT_SETTINGS,
    key: Annotated[str, typer.Option(help="key or key id to replace; needed when there are several")] = "",
    label: Label = "",
    grace: Annotated[int, typer.Option(min=0, help="seconds in which both keys work")] = 300,
    as_json: JsonFlag = False,
) -> None:
    """Make a new key, show it, wait, and revoke the old one."""
    store = _store(settings, stack)
    old = _key_to_replace(store, key)
    new, stored = store.create(label=label or old.label)
    _show_new(new, stored, as_json=as_json, replaces=old.key_id, grace=grace)
    try:
        time.sleep(grace)
    except KeyboardInterrupt:
        typer.echo(
            f"{old.key_id} still works; revoke it with: tokenmill keys revoke {stack} --key {old.key_id}",
            err=True,
        )
        raise
    store.revoke(old.key_id)
    if not as_json:
        typer.echo(f"revoked {old.key_id}")


def revoke(
    key: Annotated[str, typer.Option(help="key or key id")],
    stack: Stack = "chat",
    settings: Settings = DEFAULT_SETTINGS,
    as_json: JsonFlag = False,
) -> None:
    """Make a key open nothing any more."""
    key_id = _key_id(key)
    _store(settings, stack).revoke(key_id)
    if as_json:
        print_json({"schema": 1, "key_id": key_id, "revoked": True})
    else:
        typer.echo(f"revoked {key_id}; the gateway may accept it until its authorizer's cached answer ends")


def list_keys(
    stack: Stack = "chat", settings: Settings = DEFAULT_SETTINGS, as_json: JsonFlag = False
) -> None:
    """List the keys of a gateway, without their secrets."""
    keys = _store(settings, stack).keys()
    if as_json:
        print_json({"schema": 1, "keys": [dataclasses.asdict(key) for key in keys]})
        return
    for key in keys:
        typer.echo(
            f"{key.key_id}  {key.created}  {'revoked' if key.revoked else 'in use '}  {key.label}".rstrip()
        )
    if not keys:
        typer.echo(f"no keys; make one with: tokenmill keys create {stack}")


def _store(settings: Path, stack: str) -> KeyStore:
    import boto3

    from tokenmill.cli._key_store import KeyStore
    from tokenmill.cli.doctor import section

    chosen = section(settings, stack)
    return KeyStore(boto3.Session(region_name=chosen.region), f"tokenmill-{stack}")


def _key_id(text: str) -> str:
    from tokenmill_runtime.api_keys import parse_key

    parsed = parse_key(text)
    return parsed[0] if parsed else text


def _key_to_replace(store: KeyStore, key: str) -> StoredKey:
    in_use = {stored.key_id: stored for stored in store.keys() if not stored.revoked}
    if key:
        if _key_id(key) not in in_use:
            raise TokenmillError(
                f"no key in use has the id {_key_id(key)!r}; in use are {', '.join(in_use) or 'none'}"
            )
        return in_use[_key_id(key)]
    if len(in_use) != 1:
        raise TokenmillError(
            f"--key must name the key to replace, {len(in_use)} are in use: {', '.join(in_use) or 'none'}"
        )
    return next(iter(in_use.values()))


def _show_new(key: str, stored: StoredKey, *, as_json: bool, replaces: str, grace: int) -> None:
    if as_json:
        document: dict[str, object] = {
            "schema": 1,
            "key": key,
            "key_id": stored.key_id,
            "label": stored.label,
        }
        if replaces:
            document |= {"replaces": replaces, "revoked_after_seconds": grace}
        print_json(document)
        return
    typer.echo(key)
    typer.echo("keep it now: only its hash is stored, so it cannot be shown again", err=True)
    if replaces:
        typer.echo(f"{replaces} works for {grace} more seconds", err=True)
