"""What ends a copy: each says in one plain sentence what is wrong and what to do."""

from __future__ import annotations


class Failure(Exception):
    """The copy cannot be made as it was asked for."""


class OutOfTimeError(Failure):
    """The build's time is nearly over; what is copied stays and the next run goes on."""


class WrongHashError(Failure):
    """What arrived is not what the Hub announced."""
