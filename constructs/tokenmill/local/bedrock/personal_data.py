"""Personal data that has a form of its own, found in a text.

Names, addresses, ages, user names and passwords have none; a guardrail of the local cloud does not find
those. Source: Amazon Bedrock User Guide, "Remove PII from conversations by using sensitive information
filters".
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATTERNS: dict[str, re.Pattern[str]] = {
    "AWS_ACCESS_KEY": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "AWS_SECRET_KEY": re.compile(r"(?<![\w/+=])[A-Za-z0-9/+]{40}(?![\w/+=])"),
    "CA_SOCIAL_INSURANCE_NUMBER": re.compile(r"\b\d{3}[ -]\d{3}[ -]\d{3}\b"),
    "CREDIT_DEBIT_CARD_CVV": re.compile(r"(?<=cvv )\d{3,4}\b|(?<=cvv: )\d{3,4}\b", re.IGNORECASE),
    "CREDIT_DEBIT_CARD_EXPIRY": re.compile(r"\b(?:0[1-9]|1[0-2])/(?:20)?\d{2}\b"),
    "CREDIT_DEBIT_CARD_NUMBER": re.compile(r"\b\d(?:[ -]?\d){12,18}\b"),
    "EMAIL": re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b"),
    "INTERNATIONAL_BANK_ACCOUNT_NUMBER": re.compile(
        r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"
    ),
    "IP_ADDRESS": re.compile(
        r"\b\d{1,3}(?:\.\d{1,3}){3}\b|(?<![\w:])[0-9A-Fa-f]*(?::[0-9A-Fa-f]*){2,7}(?![\w:])"
    ),
    "MAC_ADDRESS": re.compile(r"\b[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}\b"),
    "PHONE": re.compile(
        r"(?<![\w.])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?|\d{2,4}[ .-])\d{3,4}[ .-]?\d{3,4}(?!\w)"
    ),
    "SWIFT_CODE": re.compile(r"\b[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?\b"),
    "UK_NATIONAL_INSURANCE_NUMBER": re.compile(r"\b[A-CEGHJ-PR-TW-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b"),
    "URL": re.compile(r"\bhttps?://[^\s<>\"']+[^\s<>\"'.,;:!?)]"),
    "US_INDIVIDUAL_TAX_IDENTIFICATION_NUMBER": re.compile(r"\b9\d{2}-(?:[5-9]\d)-\d{4}\b"),
    "US_SOCIAL_SECURITY_NUMBER": re.compile(r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}\b"),
    "VEHICLE_IDENTIFICATION_NUMBER": re.compile(
        r"\b(?=[A-HJ-NPR-Z0-9]*\d)(?=[A-HJ-NPR-Z0-9]*[A-Z])[A-HJ-NPR-Z0-9]{17}\b"
    ),
}


def find_personal_data(kind: str, text: str) -> Iterator[tuple[int, int]]:
    """Yield where a text holds personal data of one kind.

    Args:
        kind: Type of a PII entity; one without a pattern is never found.
        text: The text.
    """
    pattern = PATTERNS.get(kind)
    if pattern is None:
        return
    holds: Callable[[str], bool] = _CHECKS.get(kind, bool)
    for found in pattern.finditer(text):
        if holds(found.group()):
            yield found.start(), found.end()


def _luhn(text: str) -> bool:
    digits = [int(character) for character in reversed(text) if character.isdigit()]
    doubled = (sum(divmod(digit * 2, 10)) for digit in digits[1::2])
    return (sum(digits[0::2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
    plain = text.replace(" ", "")
    number = "".join(str(int(character, 36)) for character in plain[4:] + plain[:4])
    return int(number) % 97 == 1


def _address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


_CHECKS: dict[str, Callable[[str], bool]] = {
    "CREDIT_DEBIT_CARD_NUMBER": _luhn,
    "INTERNATIONAL_BANK_ACCOUNT_NUMBER": _iban,
    "IP_ADDRESS": _address,
}
