"""`tokenmill chat`: talk to the local cloud, or to any OpenAI-compatible server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from tokenmill.cli._output import JsonFlag, console, print_json
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.local.chat_client import Answer, ChatClient

MessageArgument = Annotated[str | None, typer.Argument(help="what to say; without it a conversation starts")]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="base URL that ends in /v1; the local cloud's by default")
]
KeyOption = Annotated[str | None, typer.Option("--key", help="API key; the local cloud's by default")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="model to ask; the first one served by default")
]
ConversationOption = Annotated[
    str | None, typer.Option("--conversation", help="id of a conversation that the server remembers")
]


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line application.
    """
    app.command("chat")(chat)


def chat(
    message: MessageArgument = None,
    url: UrlOption = None,
    key: KeyOption = None,
    model: ModelOption = None,
    conversation: ConversationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask the local cloud, streamed as it arrives, with its time to first token and its rate."""
    from tokenmill.local.chat_client import ChatClient

    if message is None and as_json:
        raise TokenmillError("--json needs a MESSAGE; a conversation is for people")
    client = ChatClient(*_server(url, key))
    try:
        chosen = model or client.models()[0]
        if message is None:
            _converse(client, chosen, conversation or f"chat-{uuid4().hex[:8]}")
            return
        answer = _ask(client, chosen, message, conversation, quiet=as_json)
        if as_json:
            print_json(
                {
                    "model": chosen,
                    "conversation": conversation,
                    "text": answer.text,
                    "tokens": answer.pieces,
                    "ttft_ms": round(answer.ttft_ms, 1),
                    "tokens_per_second": round(answer.tokens_per_second, 1),
                }
            )
    finally:
        client.close()


def _server(url: str | None, key: str | None) -> tuple[str, str]:
    if url is not None:
        return url, key or ""
    from tokenmill.local.state import require_running, state_folder

    state = require_running(state_folder())
    if state.base_url is None:
        raise TokenmillError(
            "the local cloud serves no gateway; deploy a chat stack with `tokenmill up chat`"
        )
    return state.base_url, key or state.api_key or ""


def _ask(client: ChatClient, model: str, message: str, conversation: str | None, *, quiet: bool) -> Answer:
    shown = False

    def show(piece: str) -> None:
        nonlocal shown
        shown = True
        if not quiet:
            sys.stdout.write(piece)
            sys.stdout.flush()

    messages = [{"role": "user", "content": message}]
    try:
        answer = client.stream(model, messages, conversation=conversation, show=show)
    except TokenmillError:
        if shown:
            show("\n")  # the message must not run on from half an answer
        raise
    if not quiet:
        console().print(f"\n\n[dim]{answer.summary}[/dim]")
    return answer


def _converse(client: ChatClient, model: str, conversation: str) -> None:
    console().print(f"[dim]{model}, conversation {conversation}; an empty line ends it[/dim]")
    while True:
        try:
            message = input("> ").strip()
        except EOFError:
            return
        if not message:
            return
        _ask(client, model, message, conversation, quiet=False)
