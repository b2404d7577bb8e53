"""How a file is cut into the parts of an upload.

"Amazon S3 multipart upload limits" (Amazon S3 user guide): at most 10,000 parts, each but the last of 5 MiB
or more; parts stay until the upload is completed or aborted.
"""

from __future__ import annotations

import math
from typing import Final

MIB: Final = 1 << 20
PART_BYTES: Final = 32 * MIB
MOST_PARTS: Final = 9_000


def part_bytes(size: int) -> int:
    """Return the length of a file's parts, always the same for the same file.

    Args:
        size: The file's size in bytes.
    """
    return max(PART_BYTES, math.ceil(size / MOST_PARTS / MIB) * MIB)
