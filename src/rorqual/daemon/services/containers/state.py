"""A container's life: one transition table. States are values; every change makes a new one.

created --start--> running --exit--> exited --start--> running
                   running --pause--> paused --unpause--> running; paused --exit--> exited
                   running --retry--> restarting --start--> running; restarting --exit--> exited
                   any --remove--> removing --fail--> dead
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from rorqual.errdefs import Conflict

CREATED, RUNNING, PAUSED, RESTARTING = "created", "running", "paused", "restarting"
REMOVING, EXITED, DEAD = "removing", "exited", "dead"
ALL = (CREATED, RUNNING, PAUSED, RESTARTING, REMOVING, EXITED, DEAD)

_TRANSITIONS: dict[tuple[str, str], str] = {
    (CREATED, "start"): RUNNING,
    (EXITED, "start"): RUNNING,
    (RESTARTING, "start"): RUNNING,
    (CREATED, "exit"): EXITED,
    (EXITED, "exit"): EXITED,
    (RUNNING, "exit"): EXITED,
    (PAUSED, "exit"): EXITED,
    (RESTARTING, "exit"): EXITED,
    (RUNNING, "retry"): RESTARTING,
    (PAUSED, "retry"): RESTARTING,
    (EXITED, "retry"): RESTARTING,
    (RESTARTING, "retry"): RESTARTING,
    (RUNNING, "pause"): PAUSED,
    (PAUSED, "unpause"): RUNNING,
    (CREATED, "remove"): REMOVING,
    (EXITED, "remove"): REMOVING,
    (DEAD, "remove"): REMOVING,
    (RESTARTING, "remove"): REMOVING,
    (REMOVING, "fail"): DEAD,
}


@dataclass(frozen=True, slots=True)
class State:
    """What can be seen of a container's life. Times in ns since the epoch, 0 for never."""

    status: str = CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_ns: int = 0
    finished_ns: int = 0

    @property
    def running(self) -> bool:
        """There is a process: running or paused."""
        return self.status in (RUNNING, PAUSED)

    def _to(self, action: str, **changes: Any) -> State:
        status = _TRANSITIONS.get((self.status, action))
        if status is None:
            raise Conflict(f"a container that is {self.status} cannot {action}")
        return replace(self, status=status, **changes)

    def start(self, pid: int, now_ns: int) -> State:
        """Its process runs."""
        return self._to("start", pid=pid, started_ns=now_ns, exit_code=0, error="", oom_killed=False)

    def exit(self, code: int, at_ns: int, error: str = "") -> State:
        """Its process ended, or could not be started."""
        return self._to("exit", pid=0, exit_code=code, finished_ns=at_ns, error=error)

    def retry(self, code: int, at_ns: int) -> State:
        """Its process ended and will be started again."""
        return self._to("retry", pid=0, exit_code=code, finished_ns=at_ns)

    def failed(self, code: int, error: str) -> State:
        """A start failed: the status stays, as in dockerd."""
        return replace(self, pid=0, exit_code=code, error=error)

    def pause(self) -> State:
        """Frozen."""
        return self._to("pause")

    def unpause(self) -> State:
        """Thawed."""
        return self._to("unpause")

    def remove(self) -> State:
        """Being removed."""
        return self._to("remove")

    def fail(self) -> State:
        """The removal failed."""
        return self._to("fail")

    def oom(self) -> State:
        """The kernel killed one of its processes for memory."""
        return replace(self, oom_killed=True)

    def to_json(self) -> dict[str, Any]:
        """For the store."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> State:
        """From the store."""
        return cls(**data)


_RESTART_FIRST_S, _RESTART_MAX_S, _RESTART_RESET_S = 0.1, 60.0, 10.0
DEFAULT_DELAYS_S = (_RESTART_FIRST_S, _RESTART_MAX_S)
# Opt-in labels, beyond Docker; only those given with the container count, not its image's.
DELAY_LABEL, MAX_DELAY_LABEL = "rorqual.restart.delay", "rorqual.restart.max-delay"


def should_restart(policy: str, maximum: int, *, exit_code: int, restarts: int, stopped_by_user: bool) -> bool:
    """Whether the policy starts a container again that ended. Source: Docker, "Start containers automatically"."""
    if stopped_by_user:
        return False
    if policy in ("always", "unless-stopped"):
        return True
    return policy == "on-failure" and exit_code != 0 and (maximum == 0 or restarts < maximum)


def starts_with_daemon(policy: str, *, stopped_by_user: bool) -> bool:
    """Whether the policy starts an ended container when the daemon starts. Source: as above."""
    return policy == "always" or (policy == "unless-stopped" and not stopped_by_user)


def next_delay_s(
    last_s: float, ran_s: float, first_s: float = _RESTART_FIRST_S, maximum_s: float = _RESTART_MAX_S
) -> float:
    """How long to wait before the next start: doubles from 100 ms to a minute, anew after a run of ten seconds."""
    if last_s == 0 or ran_s >= _RESTART_RESET_S:
        return min(first_s, maximum_s)
    return min(last_s * 2, maximum_s)
