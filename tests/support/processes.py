"""Which processes belong to an engine: read from /proc, never by name alone."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# How many times slower than others this machine is (an emulated one): waits and timeouts are longer.
SLOWNESS = float(os.environ.get("RORQUAL_TEST_SLOWNESS", "1"))


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    argv: tuple[str, ...]

    @property
    def command(self) -> str:
        return " ".join(self.argv)


def alive(pid: int) -> bool:
    """The process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def started(pid: int) -> int:
    """When it began, in ticks since the machine's start: pids do not tell, they begin anew. Who is gone comes last."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return sys.maxsize


def children() -> set[int]:
    """The pids of this process's children, other tests' engines among them."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended has none
            found.update(map(int, (task / "children").read_text().split()))
    return found


def belonging(marker: str, cgroup: str) -> list[Process]:
    """Those that have `marker` in their arguments or environment, or are in a cgroup whose path holds `cgroup`.

    Zombies do not count: their parent may not have come to them yet.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes()
            ours = (
                marker.encode() in arguments
                or marker.encode() in (entry / "environ").read_bytes()
                or cgroup in (entry / "cgroup").read_text()
            )
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if ours and alive(int(entry.name)):
            found.append(Process(int(entry.name), tuple(arguments.decode(errors="replace").split("\0")[:-1])))
    return sorted(found, key=lambda process: process.pid)


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_for(
    condition: Callable[[], object], what: str | Callable[[], str], timeout_s: float = 15, interval_s: float = 0.02
) -> object:
    """The first true value of `condition`; AssertionError with `what` when there is none in time."""
    timeout_s *= SLOWNESS
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what if isinstance(what, str) else what()}")
        time.sleep(interval_s)


def at_rest(look: Callable[[], T], what: str, for_s: float = 0.3) -> T:
    """What `look` gives once it has given the same for so long: what was under way before has come."""
    seen: list[T] = []

    def same() -> bool:
        seen[:] = [look()]
        time.sleep(for_s)
        return look() == seen[0]

    wait_for(same, what)
    return seen[0]
