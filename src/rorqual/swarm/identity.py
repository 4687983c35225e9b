"""Ids of a swarm's objects, and the alphabet they share with its tokens."""

from __future__ import annotations

import secrets

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 25


def new_id() -> str:
    """25 digits of base 36, as swarmkit's ids: 129 bits of chance."""
    return "".join(secrets.choice(_DIGITS) for _ in range(_ID_LENGTH))


def base36(number: int, length: int) -> str:
    """`number` (not negative) in base 36, filled with zeros to `length` digits."""
    digits = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits)).rjust(length, "0")
