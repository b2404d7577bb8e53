"""The AWS event-stream encoding that SageMaker and Bedrock stream their answers in."""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING_HEADER = 7


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one event-stream message: prelude, its checksum, headers, payload, checksum.

    Args:
        headers: String headers, such as `:message-type` and `:event-type`.
        payload: The body of the message.

    Source: Smithy 2.0 specification, "Amazon Event Stream Specification" (lengths big-endian, CRC-32).
    """
    encoded = b"".join(
        struct.pack("!B", len(name))
        + name.encode()
        + struct.pack("!BH", _STRING_HEADER, len(value.encode()))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    head = prelude + struct.pack("!I", zlib.crc32(prelude)) + encoded + payload
    return head + struct.pack("!I", zlib.crc32(head))


def encode_event(event_type: str, payload: bytes, *, content_type: str = "application/json") -> bytes:
    """Return one event of a response stream.

    Args:
        event_type: Name of the member of the stream's union, such as `PayloadPart`.
        payload: The event's body.
        content_type: Media type of the body.
    """
    headers = {":event-type": event_type, ":content-type": content_type, ":message-type": "event"}
    return encode_message(headers, payload)


def encode_exception(exception_type: str, message: str, **members: object) -> bytes:
    """Return the message that ends a response stream with a modelled error.

    Args:
        exception_type: Name of the error member, such as `ModelStreamError` or `modelStreamErrorException`.
        message: What went wrong.
        members: Further members of the error's shape.
    """
    headers = {
        ":exception-type": exception_type,
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return encode_message(headers, json.dumps({"Message": message, "message": message, **members}).encode())
