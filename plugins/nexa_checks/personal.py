"""The check of personal data: patterns find candidates, checksums and number plans decide.

Out of its reach: names, postal addresses, dates of birth, national identity numbers, and whatever
only its context makes personal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, as_array, read_text, require_option
from nexa_checks.verdicts import score_passing
from nexa_core import ScoreColumns, UsageError, suggest

if TYPE_CHECKING:
    from nexa_checks.options import PersonalOptions

ASKER = "check 'pii'"
_EMAIL = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}\b"
_CARD = r"(?:^|[^\d.])(?:\d[ -]?){12,18}\d(?:$|[^\d.]|\.\D|\.$)"
_IBAN = r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"
_IP = r"(?:\d{1,3}\.){3}\d{1,3}|(?:[0-9A-Fa-f]{1,4}:){2,7}[0-9A-Fa-f:]{1,39}|::[0-9A-Fa-f]{1,4}"
_PHONE = r"(?:\+|\b00)\d[\d ()./-]{6,20}\d"
_ANY_PHONE = r"\+?\(?\d[\d ()./-]{5,20}\d"
_EXAMPLE = re.compile(
    r"@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|[\w-]+\.(?:test|invalid|example))$", re.IGNORECASE
)
"""Domains reserved for examples (RFC 2606): no person's."""
_NO_ONE = re.compile(
    r"^(?:git|hg)@|@\d+x\.|\.(?:png|jpe?g|gif|svg|webp|css|js|json|html?)$", re.IGNORECASE
)
"""Repositories (`git@github.com`) and names of files (`icon@2x.png`): looks like an address, reaches nobody."""


class Personal:
    """Fails a text with an e-mail address, phone or card number, IBAN or public IP address.

    Reasons name the kind and never the datum.
    """

    def __init__(self, options: PersonalOptions) -> None:
        self.field = require_option(options.field, "field", ASKER)
        regions = _require_regions(options.regions)
        tests: dict[str, tuple[str, str, Callable[[str], bool]]] = {
            "email": ("an e-mail address", _EMAIL, is_email),
            "phone": (
                "a phone number",
                _ANY_PHONE if regions else _PHONE,
                lambda text: is_phone(text, regions),
            ),
            "card": ("a card number", _CARD, is_card),
            "iban": ("an IBAN", _IBAN, is_iban),
            "ip": ("an IP address", _IP, is_public_ip),
        }
        self.tests = [tests[kind] for kind in options.kinds]

    def score(self, table: pa.Table) -> ScoreColumns:
        text = as_array(read_text(table, self.field, ASKER))
        reason = pa.nulls(len(text), pa.string())
        for words, pattern, holds in reversed(self.tests):
            found = find_confirmed(text, pattern, holds)
            reason = pc.if_else(found, f"holds {words}", reason)
        failed = pc.if_else(text.is_valid(), reason.is_valid(), pa.scalar(None, pa.bool_()))
        return ScoreColumns(score_passing(failed), failed, reason)


def _require_regions(regions: tuple[str, ...]) -> tuple[str, ...]:
    """The regions, each one that the number plans know.

    Raises:
        UsageError: One is none: its numbers would never be found.
    """
    if regions:
        from phonenumbers import SUPPORTED_REGIONS

        for region in regions:
            if region not in SUPPORTED_REGIONS:
                near = {"UK": "GB", "EN": "GB"}.get(region) or suggest(region, SUPPORTED_REGIONS)
                raise UsageError(
                    f"The {ASKER} knows no region '{region}'.",
                    f"Did you mean '{near}'?"
                    if near
                    else "Write a country as ISO 3166 does: `US`, `DE`.",
                )
    return regions


def find_confirmed(text: Array, pattern: str, holds: Callable[[str], bool]) -> Array:
    """Where a match of the pattern stands the test; only texts with a match are taken up."""
    likely = pc.fill_null(pc.match_substring_regex(text, pattern), False)
    if not likely.true_count:
        return likely
    compiled = re.compile(pattern)
    found = [
        any(holds(match.group()) for match in compiled.finditer(each))
        for each in text.filter(likely).to_pylist()
    ]
    return pc.replace_with_mask(likely, likely, pa.array(found))


def is_email(text: str) -> bool:
    """Whether the address could be a person's."""
    return _EXAMPLE.search(text) is None and _NO_ONE.search(text) is None and ".." not in text


def is_card(text: str) -> bool:
    """Whether the digits are a payment card's: its range, length and check digit (ISO/IEC 7812-1)."""
    digits = [int(c) for c in text if c in "0123456789"]
    if not 13 <= len(digits) <= 19 or digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) < 2:
        return False
    doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether it is an IBAN by length and check digits (ISO 13616: mod 97 is 1)."""
    packed = text.replace(" ", "")
    if not 15 <= len(packed) <= 34:
        return False
    moved = packed[4:] + packed[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def is_public_ip(text: str) -> bool:
    """Whether it is an address on the public Internet, and not a version number."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return address.is_global and (
        address.version == 6 or not text.startswith(("1.0.", "1.1.", "2.0.", "8.8."))
    )


def is_phone(text: str, regions: Sequence[str] = ()) -> bool:
    """Whether it is a number of a country's plan: with its country code, or of one of the regions."""
    import phonenumbers

    for region in (None, *regions):
        try:
            number = phonenumbers.parse(re.sub(r"^00", "+", text), region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return True
    return False
