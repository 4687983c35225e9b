"""The shim's loop."""

import pytest

from rorqual.shim.loop import Loop


@pytest.mark.parametrize("far_s", [3.6e6, 1e12, float("inf")])
def test_a_timer_that_is_years_away_ends_nothing(far_s: float) -> None:
    """Such an interval of a health check, which an image may ask for, ended the shim and so the container."""
    loop = Loop()
    called = []
    loop.call_later(far_s, lambda: called.append("far"))
    assert 0 < loop._timeout_s() <= 3600
    loop.call_later(0.01, loop.stop)
    loop.run()
    loop.close()
    assert called == []
