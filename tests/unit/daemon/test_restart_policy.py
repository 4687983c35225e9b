"""Restart policies: when a container is started again, and after how long. Source: Docker, restartmanager."""

import pytest

from rorqual.api.config import HostConfig, RestartPolicy
from rorqual.daemon.services.containers import checks
from rorqual.daemon.services.containers import state as states
from rorqual.errdefs import InvalidArgument


@pytest.mark.parametrize(
    ("policy", "maximum", "code", "restarts", "stopped", "again"),
    [
        ("no", 0, 1, 0, False, False),
        ("always", 0, 0, 99, False, True),
        ("always", 0, 0, 0, True, False),
        ("unless-stopped", 0, 0, 0, False, True),
        ("unless-stopped", 0, 137, 0, True, False),
        ("on-failure", 0, 0, 0, False, False),
        ("on-failure", 0, 1, 1000, False, True),
        ("on-failure", 3, 1, 2, False, True),
        ("on-failure", 3, 1, 3, False, False),
        ("on-failure", 3, 1, 0, True, False),
    ],
)
def test_who_is_started_again(policy: str, maximum: int, code: int, restarts: int, stopped: bool, again: bool) -> None:
    found = states.should_restart(policy, maximum, exit_code=code, restarts=restarts, stopped_by_user=stopped)
    assert found is again


def test_the_delay_doubles_to_a_minute_and_begins_anew_after_ten_seconds() -> None:
    delays, last = [], 0.0
    for _ in range(12):
        last = states.next_delay_s(last, 1.0)
        delays.append(last)
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8] and delays[-2:] == [60.0, 60.0]
    assert states.next_delay_s(60.0, 9.99) == 60.0
    assert states.next_delay_s(60.0, 10.0) == 0.1


def test_the_delays_can_be_chosen() -> None:
    chosen = checks.restart_delays({"rorqual.restart.delay": "1s", "rorqual.restart.max-delay": "3s"})
    assert chosen == (1.0, 3.0)
    assert states.next_delay_s(0, 0, *chosen) == 1.0
    assert states.next_delay_s(2.0, 0, *chosen) == 3.0
    assert checks.restart_delays({}) == (0.1, 60.0)
    assert checks.restart_delays({"rorqual.restart.delay": "2m"}) == (120.0, 120.0)
    for labels in ({"rorqual.restart.delay": "soon"}, {"rorqual.restart.max-delay": "1ms"}):
        with pytest.raises(InvalidArgument):
            checks.restart_delays(labels)


def test_always_starts_with_the_daemon_even_what_was_stopped() -> None:
    assert states.starts_with_daemon("always", stopped_by_user=True)
    assert not states.starts_with_daemon("unless-stopped", stopped_by_user=True)
    assert states.starts_with_daemon("unless-stopped", stopped_by_user=False)
    assert not states.starts_with_daemon("on-failure", stopped_by_user=False)


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (RestartPolicy("sometimes"), "unknown policy 'sometimes'"),
        (RestartPolicy("always", 3), "maximum retry count can only be used with 'on-failure'"),
        (RestartPolicy("on-failure", -1), "maximum retry count cannot be negative"),
    ],
)
def test_policies_that_are_refused(policy: RestartPolicy, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        checks.restart_policy(HostConfig(restart_policy=policy).restart_policy, auto_remove=False)
