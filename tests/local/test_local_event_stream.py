"""What we frame, botocore's own parser reads."""

from __future__ import annotations

from botocore.eventstream import EventStreamBuffer

from tokenmill.local.event_stream import encode_event, encode_exception


def test_botocore_reads_our_events_with_their_checksums() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(encode_event("PayloadPart", b"data: x\n\n", content_type="application/octet-stream"))
    [event] = list(buffer)
    assert event.headers == {
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    assert event.payload == b"data: x\n\n"


def test_an_exception_carries_its_type_and_members() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(encode_exception("ModelStreamError", "gone", ErrorCode="StreamBroken"))
    [event] = list(buffer)
    assert event.headers[":exception-type"] == "ModelStreamError"
    assert b'"ErrorCode": "StreamBroken"' in event.payload
