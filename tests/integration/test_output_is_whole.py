"""Every byte that a container writes reaches its client, though it ends at once (moby#27289, moby#45795, cli#4338).

The sizes lie around what pipes, terminals and buffers hold, the largest far beyond all of them.
"""

import json
import subprocess
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root

_FITS = 1_000_000  # into the buffers on the way: the process ends without a reader
_SIZES = (_FITS, 8_388_608, 33_000_000)


def received(
    cli: Cli, *args: str, stdin: bytes | None = None, until: Callable[[], bool] | None = None
) -> tuple[int, int]:
    """(bytes on standard output, exit status) of a command line that nobody reads until `until` is true."""
    with subprocess.Popen(
        [*cli.argv, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=cli.environment
    ) as process:
        assert process.stdin and process.stdout
        if stdin:
            process.stdin.write(stdin)  # and left open: dockerd ends an attach whose input ends
            process.stdin.flush()
        else:
            process.stdin.close()
        if until is not None:
            wait_for(until, "the process has ended unread", 20)
        total = 0
        while piece := process.stdout.read(1 << 20):
            total += len(piece)
        return total, process.wait(60)


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_all_output_of_a_run_arrives_with_its_status(cli: Cli, size: int, terminal: bool) -> None:
    script = f"head -c {size} /dev/zero | tr '\\0' x; exit 7"
    flags = ("-t",) if terminal else ()
    assert received(cli, "run", "--rm", *flags, "busybox", "sh", "-c", script) == (size, 7)


def test_output_that_is_not_read_before_the_container_is_gone_still_arrives(cli: Cli, engine: Engine) -> None:
    script = f"head -c {_FITS} /dev/zero | tr '\\0' x; exit 7"
    since = time.time()

    def gone() -> bool:
        """By the event: a look may come too late to see it run at all."""
        filters = quote(json.dumps({"container": ["short"], "event": ["destroy"]}))
        told = engine.api("GET", f"/events?since={since:.6f}&until={time.time():.6f}&filters={filters}").body
        return bool(told) and not engine.pids("shim")

    assert received(cli, "run", "--rm", "--name", "short", "busybox", "sh", "-c", script, until=gone) == (_FITS, 7)


@pytest.mark.parametrize("size", _SIZES)
def test_all_output_of_an_exec_arrives_with_its_status(cli: Cli, size: int) -> None:
    cli("run", "-d", "--name", "host", "busybox", "sleep", "600")
    assert received(cli, "exec", "host", "sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x; exit 7") == (size, 7)


@pytest.mark.parametrize("size", _SIZES[:2])
def test_all_output_of_an_attached_container_arrives_with_its_status(cli: Cli, size: int) -> None:
    script = f"read go; head -c {size} /dev/zero | tr '\\0' x; exit 7"
    cli("run", "-d", "-i", "--name", "waiting", "busybox", "sh", "-c", script)
    assert received(cli, "attach", "waiting", stdin=b"go\n") == (size, 7)
    assert len(cli.out("logs", "waiting")) == size


def test_quick_processes_lose_nothing_many_times_over(cli: Cli) -> None:
    cli("run", "-d", "--name", "host", "busybox", "sleep", "600")
    for _ in range(5):
        assert received(cli, "exec", "host", "sh", "-c", "seq 1 30000; exit 3") == (168_894, 3)
