"""JSON as our services send it."""

from __future__ import annotations

import json


def json_text(document: object) -> bytes:
    """Return a document as JSON in UTF-8, its letters as they are.

    Half a surrogate pair, which clients send that cut a text between its UTF-16 units, stays an escape: UTF-8
    cannot hold it.

    Args:
        document: What JSON can hold.
    """
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")
