"""Changed limits, and which of ps's lines are a container's."""

import pytest

from rorqual.api.config import HostConfig, RestartPolicy
from rorqual.daemon.services.containers import top
from rorqual.daemon.services.containers.update import updated
from rorqual.errdefs import Conflict, InvalidArgument

_MB = 1 << 20


def test_only_what_is_given_changes() -> None:
    host = HostConfig(cpu_shares=512, memory=100 * _MB, memory_swap=200 * _MB)
    found = updated(host, HostConfig(memory=150 * _MB, pids_limit=7, restart_policy=RestartPolicy("always", 0)))
    assert (found.cpu_shares, found.memory, found.memory_swap, found.pids_limit) == (512, 150 * _MB, 200 * _MB, 7)
    assert found.restart_policy.name == "always"


@pytest.mark.parametrize(
    ("host", "wanted", "text"),
    [
        (HostConfig(cpu_quota=1000), HostConfig(nano_cpus=10**9), "CPU Quota has already been set"),
        (HostConfig(nano_cpus=10**9), HostConfig(cpu_period=10_000), "NanoCPUs has already been set"),
        (HostConfig(memory=100 * _MB, memory_swap=200 * _MB), HostConfig(memory=300 * _MB), "update the memoryswap"),
        (HostConfig(auto_remove=True), HostConfig(restart_policy=RestartPolicy("always", 0)), "AutoRemove is enabled"),
    ],
)
def test_conflicting_changes_are_refused(host: HostConfig, wanted: HostConfig, text: str) -> None:
    with pytest.raises(Conflict, match=text):
        updated(host, wanted)


def test_lines_of_threads_follow_their_process() -> None:
    output = "  PID TTY CMD\n    7 ?   sleep 1 2\n    - ?   -\n    8 ?   other\n    - ?   -\n"
    assert top.select(output, {"7"}).processes == (("7", "?", "sleep 1 2"), ("-", "?", "-"))


@pytest.mark.parametrize("arguments", ["-o user=PID", "-e -o comm=PIDX"])
def test_another_column_cannot_pass_for_the_pid(arguments: str) -> None:
    with pytest.raises(InvalidArgument, match="is not allowed"):
        top.check(arguments)


def test_output_without_a_pid_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="Couldn't find PID field"):
        top.select("COMMAND\nsleep\n", set())
