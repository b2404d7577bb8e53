"""What is still to do before a stack can be deployed to a real account, and the command that does it."""

from __future__ import annotations

from tokenmill.doctor.diagnose import DoctorReport, diagnose
from tokenmill.doctor.item import Item, State

__all__ = ["DoctorReport", "Item", "State", "diagnose"]
