"""Health checks: probes run by the shim, so that they go on, and cost nothing, while the daemon is away or idle.

Each result goes to <bundle>/health, a small JSON document replaced whole; only a change of the status is told:

    {"status": "starting"|"healthy"|"unhealthy", "streak": failures in a row,
     "log": [{"start": ns, "end": ns, "exit_code": n, "output": text}, ...]}         the last five

Rules: moby's daemon/health.go and the Dockerfile reference, HEALTHCHECK. Imported only for a task with a check.
"""

from __future__ import annotations

import json
import os
import signal
import time

from rorqual.errdefs import InvalidArgument
from rorqual.record import record
from rorqual.shim.loop import IN, Loop, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
OUTPUT_MAX = 4096  # bytes of a probe's output that are kept, as in dockerd
LOG_MAX = 5
_NEVER_RAN = -1


@record
class HealthOptions:
    """How often and how long; `probe` is what the daemon asked to be done (rorqual.shim.probes). Times in seconds."""

    probe: Mapping[str, Any]
    interval_s: float
    timeout_s: float
    start_period_s: float
    start_interval_s: float
    retries: int

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> HealthOptions:
        """From the task's options. Raises InvalidArgument."""
        try:
            return cls(
                probe=dict(values["probe"]),
                interval_s=float(values["interval_s"]),
                timeout_s=float(values["timeout_s"]),
                start_period_s=float(values["start_period_s"]),
                start_interval_s=float(values["start_interval_s"]),
                retries=int(values["retries"]),
            )
        except (LookupError, TypeError, ValueError) as e:
            raise InvalidArgument(f"health check: {e}") from e


@record
class Result:
    """One probe. Times in ns since 1970; `exit_code` -1 when it could not be run or took too long."""

    start: int
    end: int
    exit_code: int
    output: str


class Health:
    """What the results so far mean."""

    __slots__ = ("results", "status", "streak")

    def __init__(self, status: str = STARTING, streak: int = 0, results: list[Result] | None = None) -> None:
        self.status = status
        self.streak = streak
        self.results = results or []

    def record(self, result: Result, options: HealthOptions, since_start_s: float) -> bool:
        """Take a result whose probe began `since_start_s` after the container; whether the status changed."""
        before = self.status
        self.results = [*self.results, result][-LOG_MAX:]
        if result.exit_code == 0:
            self.status, self.streak = HEALTHY, 0
        elif not (self.status == STARTING and since_start_s < options.start_period_s):
            self.streak += 1
            if self.streak >= options.retries:
                self.status = UNHEALTHY
        return self.status != before

    def delay_s(self, options: HealthOptions, since_start_s: float) -> float:
        """How long to wait for the next probe."""
        if self.status == STARTING and since_start_s < options.start_period_s:
            return options.start_interval_s
        return options.interval_s

    def to_json(self) -> str:
        """The file's document."""
        log_ = [{"start": r.start, "end": r.end, "exit_code": r.exit_code, "output": r.output} for r in self.results]
        return json.dumps({"status": self.status, "streak": self.streak, "log": log_})


class Monitor:
    """Probes one container between start() and stop().

    `spawn(write_fd)` starts a probe that writes to write_fd and gives its pid, `on_exit(pid, callback)` has callback
    called with its wait status; `changed` is called at each change of the status, after the file is written.
    """

    def __init__(
        self,
        loop: Loop,
        options: HealthOptions,
        path: str,
        spawn: Callable[[int], int],
        on_exit: Callable[[int, Callable[[int], None]], None],
        changed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._options = options
        self._path = path
        self._spawn = spawn
        self._on_exit = on_exit
        self._changed = changed
        self._health = Health()
        self._began_s = time.monotonic()
        self._turn = 0  # a timer of an earlier turn is stale: timers cannot be taken back
        self._probe: _Probe | None = None

    def start(self) -> None:
        """The container runs (again, after a pause)."""
        self._wait()

    def stop(self) -> None:
        """It is paused or has ended; a probe under way is killed and its result dropped."""
        self._turn += 1
        if self._probe is not None:
            self._probe.abandon()
            self._probe = None

    def _wait(self) -> None:
        self._turn += 1
        turn = self._turn
        delay_s = self._health.delay_s(self._options, time.monotonic() - self._began_s)
        self._loop.call_later(delay_s, lambda: self._run() if turn == self._turn else None)

    def _run(self) -> None:
        since_start_s = time.monotonic() - self._began_s
        self._probe = _Probe(
            self._loop,
            self._options.timeout_s,
            self._spawn,
            self._on_exit,
            lambda result: self._ended(result, since_start_s),
        )
        self._probe.start()

    def _ended(self, result: Result, since_start_s: float) -> None:
        self._probe = None
        changed = self._health.record(result, self._options, since_start_s)
        self._write()
        if changed:
            self._changed()
        self._wait()

    def _write(self) -> None:
        try:
            with open(self._path + ".tmp", "w", encoding="utf-8") as file:
                file.write(self._health.to_json())
            os.rename(self._path + ".tmp", self._path)
        except OSError as e:
            log(f"{self._path}: {e}")


class _Probe:
    """One run of the check: a child and the pipe it writes to."""

    def __init__(
        self,
        loop: Loop,
        timeout_s: float,
        spawn: Callable[[int], int],
        on_exit: Callable[[int, Callable[[int], None]], None],
        done: Callable[[Result], None],
    ) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._spawn = spawn
        self._on_exit = on_exit
        self._done: Callable[[Result], None] | None = done
        self._start_ns = time.time_ns()
        self._output = bytearray()
        self._read_fd = -1
        self._pid = 0
        self._timed_out = False

    def start(self) -> None:
        self._read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        try:
            self._pid = self._spawn(write_fd)
        except Exception as e:  # whatever kept it from running is its result
            self._output += (str(e) or type(e).__name__).encode()
            self._finish(_NEVER_RAN)
            return
        finally:
            os.close(write_fd)
        os.set_blocking(self._read_fd, False)
        self._loop.add(self._read_fd, IN, self._readable)
        self._on_exit(self._pid, self._exited)
        self._loop.call_later(self._timeout_s, self._time_out)

    def abandon(self) -> None:
        """Kill it and tell nobody."""
        self._done = None
        self._kill()
        self._close()

    def _readable(self, _events: int) -> None:
        self._read()

    def _read(self) -> bool:
        """Whether there may be more; what is too much is read and dropped, or the probe would block on its pipe."""
        try:
            data = os.read(self._read_fd, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove(self._read_fd)
            return False
        self._output += data[: OUTPUT_MAX + 1 - len(self._output)]
        return True

    def _exited(self, wait_status: int) -> None:
        self._pid = 0
        if self._read_fd >= 0:
            # No further than what is kept: a writer that the probe left behind may never stop.
            while len(self._output) <= OUTPUT_MAX and self._read():
                pass
        code = os.waitstatus_to_exitcode(wait_status)
        self._finish(_NEVER_RAN if self._timed_out else code if code >= 0 else 128 - code)

    def _time_out(self) -> None:
        if self._pid and self._done is not None:
            self._timed_out = True
            self._kill()

    def _kill(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)  # our unreaped child

    def _close(self) -> None:
        if self._read_fd >= 0:
            self._loop.remove(self._read_fd)
            os.close(self._read_fd)
            self._read_fd = -1

    def _finish(self, exit_code: int) -> None:
        self._close()
        if self._done is None:
            return
        text = self._output[:OUTPUT_MAX].decode("utf-8", "replace")
        if len(self._output) > OUTPUT_MAX:
            text += "..."
        if self._timed_out:
            text = f"Health check exceeded timeout ({_duration(self._timeout_s)})" + (f": {text}" if text else "")
        done, self._done = self._done, None
        done(Result(self._start_ns, time.time_ns(), exit_code, text))


def _duration(seconds: float) -> str:
    """As Go prints it: `30s`, `1m30s`, `500ms`."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
