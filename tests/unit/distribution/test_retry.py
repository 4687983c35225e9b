import email.utils
import time

import pytest

from rorqual.distribution.retry import RetryPolicy, retry_after_s


def test_waits_double_with_jitter_up_to_the_cap_and_end() -> None:
    policy = RetryPolicy(attempts=6, base_s=1, cap_s=5)
    for failures, longest in ((1, 1), (2, 2), (3, 4), (4, 5), (5, 5)):
        for _ in range(20):
            delay = policy.delay_s(failures)
            assert delay is not None and longest / 2 <= delay <= longest
    assert policy.delay_s(6) is None


def test_retry_after_is_honoured_within_reason() -> None:
    policy = RetryPolicy()
    assert policy.delay_s(1, 7.0) == 7.0
    assert policy.delay_s(1, 3600.0) is None


@pytest.mark.parametrize(("header", "seconds"), [(None, None), ("", None), ("soon", None), ("12", 12.0), ("-5", None)])
def test_retry_after_header(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


def test_retry_after_date() -> None:
    found = retry_after_s(email.utils.formatdate(time.time() + 30, usegmt=True))
    assert found is not None and 25 < found <= 31
    assert retry_after_s(email.utils.formatdate(time.time() - 30, usegmt=True)) == 0.0
