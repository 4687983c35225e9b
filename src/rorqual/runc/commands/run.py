"""create, run: make a container from a bundle; run goes on to start it, and unless detached, waits for it."""

from __future__ import annotations

import os

from rorqual.errdefs import InvalidArgument
from rorqual.linux import process
from rorqual.oci.runtime import Spec
from rorqual.record import replace
from rorqual.runc import container as runc
from rorqual.runc.commands import foreground
from rorqual.runc.commands.context import Context
from rorqual.runc.commands.parser import Line, Option, expect, flag, value
from rorqual.runc.errors import reason

_COMMON: tuple[Option, ...] = (
    value("bundle", "b", help="path to the root of the bundle directory, defaults to the current directory"),
    value("console-socket", help="AF_UNIX socket which receives the master end of the console's pseudoterminal"),
    value("pidfd-socket", help="AF_UNIX socket which receives a file descriptor of the init process"),
    value("pid-file", help="the file to write the process id to"),
    flag("no-pivot", help="move the root instead of pivot_root, for a rootfs on a ramdisk"),
    flag("no-new-keyring", help="the container inherits the caller's session keyring"),
    value("preserve-fds", help="pass N additional file descriptors to the container"),
)
CREATE_OPTIONS = _COMMON
RUN_OPTIONS = (
    *_COMMON,
    flag("detach", "d", help="detach from the container's process"),
    flag("keep", help="do not delete the container after it exits"),
    flag("no-subreaper", help="do not become the reaper of orphaned processes"),
)


def create(line: Line, context: Context) -> int:
    expect(line, "create", 1, 1)
    _make(line, context, detach=True)
    return 0


def run(line: Line, context: Context) -> int:
    expect(line, "run", 1, 1)
    detach = line.has("detach")
    if not line.has("no-subreaper"):
        process.set_child_subreaper()
    front = None if detach else foreground.Foreground()
    made = _make(line, context, detach=detach)
    try:
        context.warn(made.start())
        if front is None:
            return 0
        return front.wait(made.pid, made.console_fd)
    finally:
        if front is not None and not line.has("keep"):
            context.warn(made.delete(force=True))


def _make(line: Line, context: Context, *, detach: bool) -> runc.Container:
    bundle = os.path.abspath(line.get("bundle") or ".")
    try:
        os.stat(f"{bundle}/.")
    except OSError as e:
        raise InvalidArgument(f"chdir {line.get('bundle')}: {reason(e)}") from e
    data = load_config(bundle)
    spec = Spec.from_json(data)
    terminal = spec.process is not None and spec.process.terminal
    foreground.check_terminal(terminal, detach, line.get("console-socket"))
    preserved, environment = foreground.passed_fds(line.number("preserve-fds") or 0)
    if environment and spec.process is not None:
        spec = replace(spec, process=replace(spec.process, env=(*spec.process.env, *environment)))
    pid_file = line.get("pid-file")
    made = runc.create(
        line.arguments[0],
        bundle,
        spec,
        root=context.root,
        preserve_fds=preserved,
        pid_file=os.path.abspath(pid_file) if pid_file else None,
        no_pivot=line.has("no-pivot"),
        new_keyring=not line.has("no-new-keyring"),
        rootless=context.is_rootless(),
        systemd=context.systemd_cgroup,
    )
    context.warn(made.warnings)
    try:
        _hand_over(line, made, detach)
    except BaseException:
        made.delete(force=True)
        raise
    return made


def _hand_over(line: Line, made: runc.Container, detach: bool) -> None:
    if line.get("pidfd-socket"):
        pidfd = os.pidfd_open(made.pid)
        foreground.send_fd(line.get("pidfd-socket"), pidfd, "pidfd")
        os.close(pidfd)
    if detach and made.console_fd is not None:
        foreground.send_fd(line.get("console-socket"), made.console_fd, "/dev/ptmx")
        os.close(made.console_fd)


def load_config(bundle: str) -> bytes:
    """Raises: InvalidArgument when the bundle has none."""
    try:
        with open(f"{bundle}/config.json", "rb") as f:
            return f.read()
    except FileNotFoundError:
        raise InvalidArgument("JSON specification file config.json not found") from None
