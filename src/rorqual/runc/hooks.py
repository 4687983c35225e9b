"""Hooks: programs run at points of the lifecycle, with the container's state on stdin.

    prestart, createRuntime   runtime's namespaces, once the container's are there, before pivot; failure ends create
    createContainer           container's namespaces, the host's file system still there; failure ends create
    startContainer            container's namespaces and file system, before the user's program; failure ends start
    poststart, poststop       runtime's namespaces, after start and delete; failure is a warning

Runs in the parent and, for two of them, in the container's child, so it imports nothing late and starts no thread.
Source: runtime-spec config.md, POSIX-platform Hooks; runtime.md, Lifecycle.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from contextlib import suppress

from rorqual.errdefs import InvalidArgument
from rorqual.oci import jsontext
from rorqual.oci.runtime import HOOK_KINDS, Hook, Hooks
from rorqual.record import record
from rorqual.runc.errors import Refusal, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

_OUTPUT_MAX = 4096


@record
class State:
    """What a hook reads on its stdin (runtime-spec runtime.md, State)."""

    oci_version: str
    id: str
    status: str
    pid: int
    bundle: str
    annotations: dict[str, str]

    def to_json(self) -> bytes:
        document = {
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": self.status,
            "pid": self.pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
        }
        if not self.pid:
            del document["pid"]
        if not self.annotations:
            del document["annotations"]
        return jsontext.dumps(document).encode()


def check(hooks: Hooks | None) -> None:
    """Raises: InvalidArgument of what no hook can be run with. Source: config.md, POSIX-platform Hooks."""
    for name, member in HOOK_KINDS.items() if hooks is not None else ():
        for index, hook in enumerate(getattr(hooks, member)):
            where = f"invalid config: hooks.{name}[{index}]"
            if not hook.path.startswith("/"):
                raise InvalidArgument(f"{where}.path must be absolute, not {hook.path!r}")
            if hook.args and not hook.args[0]:
                raise InvalidArgument(f"{where}.args[0] must not be empty")
            for number, entry in enumerate(hook.env):
                if not entry.partition("=")[0] or "=" not in entry:
                    raise InvalidArgument(f"{where}.env[{number}] must be NAME=value, not {entry!r}")


def run(name: str, hooks: Sequence[Hook], state: State) -> None:
    """Run them in order. Raises: Refusal at the first that fails, with what it wrote."""
    for index, hook in enumerate(hooks):
        failure = _run_one(hook, state.to_json())
        if failure:
            raise Refusal(f"error running {name} hook #{index}: {failure}")


def run_all(name: str, hooks: Sequence[Hook], state: State) -> list[str]:
    """Run them all; the failures as warnings."""
    failures = [_run_one(hook, state.to_json()) for hook in hooks]
    return [f"error running {name} hook #{index}: {text}" for index, text in enumerate(failures) if text]


def _run_one(hook: Hook, state: bytes) -> str:
    """ "" or what went wrong. stdin and output are memory files: a hook that reads or writes too little or too much
    blocks nobody."""
    stdin, output = os.memfd_create("state"), os.memfd_create("output")
    try:
        os.write(stdin, state)
        os.lseek(stdin, 0, os.SEEK_SET)
        environment = dict(entry.partition("=")[::2] for entry in hook.env)
        moves = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
        arguments = hook.args or (hook.path,)
        try:
            # Its own group: a hook that hangs is ended together with what it started.
            pid = os.posix_spawn(hook.path, arguments, environment, file_actions=moves, setpgroup=0, setsigmask=())
        except OSError as e:
            return f"fork/exec {hook.path}: {reason(e)}"
        status = _wait(pid, hook.timeout)
        if status == 0:
            return ""
        said = os.pread(output, _OUTPUT_MAX, 0).decode("utf-8", "replace").strip()
        if status is None:
            return f"hook ran past specified timeout of {hook.timeout}s"
        ended = f"exit status {status}" if status > 0 else f"signal: {_signal_text(-status)}"
        return f"{ended}, stdout/stderr: {said}" if said else ended
    finally:
        os.close(stdin)
        os.close(output)


def _signal_text(number: int) -> str:
    """As Go prints it: `killed`, `terminated`."""
    text = signal.strsignal(number)
    return text.lower() if text else f"signal {number}"


def _wait(pid: int, timeout_s: int | None) -> int | None:
    """The exit code (negative: signal); None when the time is over, and the hook ended."""
    if timeout_s is not None and not _ends_within(pid, timeout_s):
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _ends_within(pid: int, timeout_s: int) -> bool:
    deadline = time.monotonic() + timeout_s
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(left * 1000):
                return True
        return False
    finally:
        os.close(pidfd)
