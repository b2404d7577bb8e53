"""What a user's own measurements say of the shipped timing: two factors, and how sure they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core._codec import decode, digest, encode
from tokenmill.core._files import read_document, replace_text
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedPhase:
    """One phase, prefill or decode.

    Args:
        factor: Measured over predicted time, drawn towards 1 the more the fewer points there are.
        points: Measurements behind it.
        low: Low end of the 80 % interval over the corrected prediction.
        high: High end of the 80 % interval over the corrected prediction.
        error_before_percent: Mean absolute error of the shipped timing on the points.
        error_after_percent: The same after the correction.
    """

    factor: float
    points: int
    low: float
    high: float
    error_before_percent: float
    error_after_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A correction of the timing for one model on one kind of chip.

    Args:
        source: Name of the file with the measurements.
        source_digest: SHA-256 of its content, in hexadecimal.
        date: When it was made, as YYYY-MM-DD.
        model: The model that was measured.
        accelerator: The chip that it ran on.
        image: Key of the serving image that ran it.
        tensor: Cores that shared each layer.
        decode: Correction of decode steps.
        prefill: Correction of prefills.
        schema: Version of this document.
    """

    source: str
    source_digest: str
    date: str
    model: str
    accelerator: str
    image: str
    tensor: int
    decode: CalibratedPhase
    prefill: CalibratedPhase
    schema: int = SCHEMA

    @property
    def digest(self) -> str:
        """Digest of what changes a plan: everything but the file's name and the date."""
        document = encode(self)
        return digest({key: value for key, value in document.items() if key not in ("source", "date")})

    def write(self, path: Path) -> None:
        """Write the calibration as JSON, in one step so that no reader sees half of it.

        Args:
            path: The file, such as chat.calibration.json.

        Raises:
            TokenmillError: The path is a folder.
        """
        replace_text(path, json.dumps(encode(self), indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """Return the calibration in a file.

        Args:
            path: The file that `write` wrote.

        Raises:
            TokenmillError: The file is missing, not JSON, not a calibration of this schema, or holds a number
                that cannot be.
        """
        again = "write it again with: tokenmill calibrate"
        document = read_document(path, "calibration file", again)
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema != SCHEMA:
            raise TokenmillError(
                f"calibration file {path} has schema {schema!r}, this version reads {SCHEMA}; {again}"
            )
        found = decode(cls, document, f"calibration file {path}")
        for name, phase in (("decode", found.decode), ("prefill", found.prefill)):
            if not (0 < phase.low <= 1 <= phase.high < 1000 and 0.001 < phase.factor < 1000):
                raise TokenmillError(
                    f"calibration file {path} has a {name} factor {phase.factor!r} with interval "
                    f"{phase.low!r} to {phase.high!r}, which cannot be; {again}"
                )
        return found
