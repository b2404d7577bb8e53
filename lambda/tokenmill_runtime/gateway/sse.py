"""Server-sent events: reading a model's, writing ours (WHATWG HTML, section 9.2 "Server-sent events")."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DONE: Final = "[DONE]"


def encode_event(document: Mapping[str, object] | str) -> bytes:
    """One event; a text goes out as it is, anything else as JSON on one line."""
    data = document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))
    return f"data: {data}\n\n".encode()


class SseDecoder:
    """Takes bytes cut anywhere, also inside a character, and gives the data of every whole event."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, part: bytes) -> Iterator[str]:
        """The data of the events that this part completes; raises UnicodeDecodeError for other than UTF-8."""
        lines = (self._rest + part).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            # Decoding whole lines only is what makes a cut inside a character harmless.
            text = line.removesuffix(b"\r").decode()
            if text:
                self._field(text)
            elif self._data:
                data, self._data = "\n".join(self._data), []
                yield data

    @property
    def unfinished(self) -> bool:
        """Whether bytes of an event arrived whose end did not."""
        return bool(self._rest or self._data)

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
