"""When and how often a request to a registry is tried again: pure rules, no clocks.

Tried again: 429, 5xx, cut and stalled connections. Not: refused connections, unknown hosts, every other 4xx; those the
user should hear of at once.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` without progress in all; waits double from `base_s` to `cap_s`, with jitter."""

    attempts: int = 5
    base_s: float = 0.5
    cap_s: float = 20.0
    # A registry that asks for more patience than this is answered with the error instead.
    max_retry_after_s: float = 60.0

    def delay_s(self, failures: int, retry_after_s: float | None = None) -> float | None:
        """How long to wait after the n-th failure in a row (from 1); None = give up."""
        if failures >= self.attempts:
            return None
        if retry_after_s is not None:
            return retry_after_s if retry_after_s <= self.max_retry_after_s else None
        # Full jitter would make an immediate retry as likely as a late one: keep half.
        return min(self.cap_s, self.base_s * 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0)


def retry_after_s(header: str | None) -> float | None:
    """Seconds that a Retry-After header (delta or date) asks for; None when absent or unreadable."""
    if not header:
        return None
    text = header.strip()
    if text.isdecimal():
        return float(text[:9])
    from email.utils import parsedate_to_datetime  # rare, and 0.7 MB

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
