"""API keys of a gateway: how one is made, read and compared; shared by the authorizer and the command line.

Only a SHA-256 of the secret is stored. A plain hash is enough because the secret is 256 random bits, which no
dictionary reaches; a slow password hash would only make every request slower.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime
from typing import Final

KEY_TABLE_VARIABLE: Final = "TOKENMILL_KEY_TABLE"
KEY_ID_ATTRIBUTE: Final = "key_id"
SECRET_ATTRIBUTE: Final = "secret_sha256"
CREATED_ATTRIBUTE: Final = "created"
REVOKED_ATTRIBUTE: Final = "revoked"
LABEL_ATTRIBUTE: Final = "label"

_KEY: Final = re.compile(r"tm-([0-9a-f]{12})-([A-Za-z0-9_-]{43})", re.ASCII)

KeyItem = dict[str, dict[str, str | bool]]


def new_key(*, label: str = "", created: datetime | None = None) -> tuple[str, KeyItem]:
    """A fresh key and the DynamoDB item to store for it.

    The item is in the low-level form (``{"key_id": {"S": ...}}``), ready for the client's ``put_item``. The
    key is returned here only; it cannot be read back from the item.
    """
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    moment = created if created is not None else datetime.now(UTC)
    item: KeyItem = {
        KEY_ID_ATTRIBUTE: {"S": key_id},
        SECRET_ATTRIBUTE: {"S": hash_secret(secret)},
        CREATED_ATTRIBUTE: {"S": moment.astimezone(UTC).isoformat(timespec="seconds")},
        REVOKED_ATTRIBUTE: {"BOOL": False},
        LABEL_ATTRIBUTE: {"S": label},
    }
    return f"tm-{key_id}-{secret}", item


def hash_secret(secret: str) -> str:
    """SHA-256 of a key's secret part, in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_key(text: str) -> tuple[str, str] | None:
    """The key id and the secret of a key, or None when the text has not the form of one."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


def secret_matches(secret: str, secret_sha256: str) -> bool:
    """Whether the secret has this hash, in a time that does not tell how much of it agrees."""
    return hmac.compare_digest(hash_secret(secret).encode(), secret_sha256.encode())
