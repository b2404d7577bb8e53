"""What boto3 leaves to its users about a connection that streams: its exceptions, and giving it up."""

from __future__ import annotations

from typing import Any


def connection_errors() -> tuple[type[Exception], ...]:
    """What a boto3 call or the stream of its answer raises when the service or the network fails."""
    from botocore.eventstream import ParserError
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    # The event stream passes on what urllib3 raises, and its parser what it finds in broken frames.
    return (BotoCoreError, ClientError, HTTPError, ParserError, OSError)


def let_go(events: Any) -> None:
    """Wake the thread that reads this event stream, and close its connection, before the stream's end.

    Closing alone would wait for that thread, which waits for the model: the reading side of the socket is
    shut down first (urllib3 2.3 and later; with an older one the thread ends at the model's next token or
    time-out).
    """
    shutdown = getattr(events._raw_stream, "shutdown", None)
    if shutdown is not None:
        try:
            shutdown()
        except (ValueError, RuntimeError, OSError) as error:
            # The stream ended in this very moment, so there is no reader to wake and no socket to shut down.
            del error
    events.close()
