"""A bounded part of what tests/benchmarks/scale.py measures with 300 running and 5,000 stopped containers."""

import time

import pytest
from support import scale
from support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.slow]

RUNNING, STOPPED = 16, 100


def test_a_kill_of_the_daemon_is_nothing_to_many_containers(fresh_engine: Engine) -> None:
    engine, since = fresh_engine, time.time()
    ids = scale.make(engine, RUNNING, STOPPED, health_interval_s=1)
    scale.all_healthy(engine, ids, 60)
    before = scale.lives(engine, ids)
    made = scale.told(engine, since, time.time())
    killed = time.time()
    scale.killed_and_found(engine, RUNNING + STOPPED)
    time.sleep(2)  # what a daemon that takes them for dead would do to them
    assert scale.lives(engine, ids) == before
    after = scale.told(engine, killed, time.time())
    assert [event for event in after if not event[1].startswith(("exec_", "health_status"))] == []
    assert [event for event in after if event[1].startswith("health_status")] == []  # none has changed
    assert scale.told(engine, since, killed) == made
    for action in ("create", "start", "health_status: healthy"):
        assert len([id for id, told in made if told == action]) == len({id for id, told in made if told == action})
    assert {id for id, told in made if told == "health_status: healthy"} == set(ids)


def test_idle_containers_with_health_checks_cost_the_daemon_next_to_nothing(fresh_engine: Engine) -> None:
    ids = scale.make(fresh_engine, RUNNING, 0, health_interval_s=1)
    scale.all_healthy(fresh_engine, ids, 60)
    for _ in range(3):  # the first that is good: other work on the machine makes the same cost more
        shares = scale.idle_shares(fresh_engine, 6)
        if max(shares["rorquald"], shares["containerd"]) < 0.03:
            break
    # 16 probes a second are as many as 480 containers make with the usual 30 s.
    assert shares["rorquald"] < 0.03 and shares["containerd"] < 0.03, shares
    assert shares["shim"] > 0, "no check ran"
