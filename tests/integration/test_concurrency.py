"""Many clients at once: nothing collapses, nothing is left."""

import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


def run_once(cli: Cli) -> float:
    began = time.perf_counter()
    assert cli("run", "--rm", "busybox", "echo", "ok").out == "ok\n"
    return time.perf_counter() - began


@pytest.mark.slow
def test_32_at_once_need_at_most_seven_tenths_of_one_after_the_other(cli: Cli) -> None:
    run_once(cli)
    for rest in (2, 1, 0):  # one time of three is enough: others' work may come between the two that are compared
        began = time.perf_counter()
        for _ in range(32):
            run_once(cli)
        sequential = time.perf_counter() - began
        began = time.perf_counter()
        with ThreadPoolExecutor(32) as pool:
            times = list(pool.map(lambda _: run_once(cli), range(32)))
        together = time.perf_counter() - began
        if rest and (together > 0.7 * sequential or max(times) > 3 * statistics.median(times)):
            continue
        assert together <= 0.7 * sequential, f"{together:.2f} s together, {sequential:.2f} s one after the other"
        assert max(times) <= 3 * statistics.median(times), sorted(times)
        break


def test_16_creates_of_one_name_make_exactly_one_container(engine: Engine) -> None:
    body = {"Image": "busybox", "Cmd": ["true"]}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: engine.api("POST", "/containers/create?name=one", body).status, range(16)))
    assert sorted(answers) == [201] + [409] * 15


def test_start_stop_and_remove_racing_leave_a_consistent_state(engine: Engine) -> None:
    for round_ in range(4):
        name = f"race{round_}"
        assert (
            engine.api("POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sleep", "60"]}).status
            == 201
        )
        calls = [
            ("POST", f"/containers/{name}/start"),
            ("POST", f"/containers/{name}/kill"),
            ("DELETE", f"/containers/{name}?force=1"),
        ]
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda call: engine.api(*call), calls * 2))
        assert all(answer.status < 500 for answer in answers), [(a.status, a.body) for a in answers]
        engine.api("DELETE", f"/containers/{name}?force=1")
        assert engine.api("GET", f"/containers/{name}/json").status == 404


def test_50_runs_from_16_clients_leave_nothing(engine: Engine) -> None:
    run_once(engine.rorqual)
    before = engine.held()
    done = subprocess.run(
        ["xargs", "-P", "16", "-I", "{}", *engine.rorqual.argv, "run", "--rm", "busybox", "echo", "{}"],
        input="\n".join(map(str, range(50))),
        capture_output=True,
        text=True,
        env=engine.rorqual.environment,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr + engine.log_tail()
    assert sorted(done.stdout.split(), key=int) == [str(n) for n in range(50)]
    wait_for(lambda: not engine.held().more_than(before, 8), lambda: str(engine.held().more_than(before, 8)))


def test_clients_that_go_away_leave_nothing_half_made(engine: Engine) -> None:
    """A client killed at a random moment of `run --rm -it`: no shim, no namespace, no address stays behind for good."""
    before = engine.held()
    for step in range(12):
        with engine.rorqual.started("run", "--rm", "-i", "busybox", "cat") as client:
            time.sleep(0.02 * step)
            client.kill()

    def nothing() -> bool:
        # What the last ones asked for may still be being made when they are gone.
        for container in engine.api("GET", "/containers/json?all=1").json:
            engine.api("DELETE", f"/containers/{container['Id']}?force=1")
        return not engine.held().more_than(before, 8)

    wait_for(nothing, lambda: str(engine.held().more_than(before, 8)))
