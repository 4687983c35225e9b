"""exec: a further process in a running container."""

from __future__ import annotations

import os

from rorqual.errdefs import InvalidArgument
from rorqual.oci.runtime import Capabilities, ConsoleSize, Process, Spec, User
from rorqual.record import replace
from rorqual.runc import container as runc
from rorqual.runc import creation
from rorqual.runc.commands import foreground
from rorqual.runc.commands.context import Context
from rorqual.runc.commands.parser import Line, expect, flag, many, value

OPTIONS = (
    value("console-socket", help="AF_UNIX socket which receives the master end of the console's pseudoterminal"),
    value("pidfd-socket", help="AF_UNIX socket which receives a file descriptor of the process"),
    value("cwd", help="current working directory in the container"),
    many("env", "e", help="set environment variables"),
    flag("tty", "t", help="allocate a pseudo-TTY"),
    value("user", "u", help="UID (format: <uid>[:<gid>])"),
    many("additional-gids", "g", help="additional gids"),
    value("process", "p", help="path to the process.json"),
    flag("detach", "d", help="detach from the container's process"),
    value("pid-file", help="specify the file to write the process id to"),
    value("process-label", help="the SELinux label of the process"),
    value("apparmor", help="the AppArmor profile of the process"),
    flag("no-new-privs", help="set the no new privileges value for the process"),
    many("cap", "c", help="add a capability to the bounding set for the process"),
    value("preserve-fds", help="pass N additional file descriptors to the process"),
    many("cgroup", help="run the process in an existing sub-cgroup: [<controller>:]<cgroup>"),
    flag("ignore-paused", help="allow exec in a paused container"),
)


def run(line: Line, context: Context) -> int:
    expect(line, "exec", 1, None)
    made = runc.load(line.arguments[0], context.root)
    document = _process(line, Spec.from_json(made.directory.read_config()))
    detach = line.has("detach")
    foreground.check_terminal(document.terminal, detach, line.get("console-socket"))
    preserved, environment = foreground.passed_fds(line.number("preserve-fds") or 0)
    document = replace(document, env=(*document.env, *environment))
    front = None if detach else foreground.Foreground()
    pid, console = made.exec(
        document,
        preserve_fds=preserved,
        groups=_groups(line),
        ignore_paused=line.has("ignore-paused"),
    )
    if line.get("pid-file"):
        creation.write_pid_file(line.get("pid-file"), pid)
    if front is not None:
        return front.wait(pid, console)
    if console is not None:
        foreground.send_fd(line.get("console-socket"), console, "/dev/ptmx")
    return 0


def _groups(line: Line) -> dict[str, str]:
    """controller ("" for all) -> group below the container's."""
    chosen = {}
    for given in line.all("cgroup"):
        controllers, separator, path = given.rpartition(":")
        for controller in controllers.split(",") if separator else [""]:
            chosen[controller] = path
    return chosen


def _process(line: Line, spec: Spec) -> Process:
    """--process, or the container's own process with the changes that the options ask for."""
    if line.get("process"):
        with open(line.get("process"), "rb") as f:
            document = Process.from_json(f.read())
        return replace(document, terminal=True) if line.has("tty") else document
    if len(line.arguments) < 2:
        raise InvalidArgument("process args cannot be empty")
    document = replace(
        spec.process or Process(),
        args=tuple(line.arguments[1:]),
        terminal=line.has("tty"),
        console_size=_terminal_size() if line.has("tty") else None,
    )
    if line.get("cwd"):
        document = replace(document, cwd=line.get("cwd"))
    document = replace(document, env=(*document.env, *line.all("env")), user=_user(line, document.user))
    if line.get("apparmor"):
        document = replace(document, apparmor_profile=line.get("apparmor"))
    if line.get("process-label"):
        document = replace(document, selinux_label=line.get("process-label"))
    if line.has("no-new-privs"):
        document = replace(document, no_new_privileges=True)
    return _with_capabilities(document, line.all("cap"))


def _user(line: Line, user: User) -> User:
    if line.get("user"):
        uid, _, gid = line.get("user").partition(":")
        user = replace(user, uid=_id(uid, "uid"), gid=_id(gid, "gid") if gid else user.gid, username="")
    gids = [_id(gid, "additional gid") for gid in line.all("additional-gids")]
    return replace(user, additional_gids=(*user.additional_gids, *gids))


def _id(text: str, kind: str) -> int:
    """Raises: InvalidArgument; CVE-2024-40635: what is above 2^31-1 is no ID."""
    if not text.isascii() or not text.isdigit():
        raise InvalidArgument(f'parsing {text} as int for {kind} failed: parsing "{text}": invalid syntax')
    if len(text) > 10 or int(text) > 2**31 - 1:
        raise InvalidArgument("unable to setup user: uids and gids must be in range 0-2147483647")
    return int(text)


def _with_capabilities(document: Process, added: list[str]) -> Process:
    if not added:
        return document
    own = document.capabilities or Capabilities()
    more = tuple(added)
    return replace(
        document,
        capabilities=Capabilities(
            bounding=(*own.bounding, *more),
            effective=(*own.effective, *more),
            permitted=(*own.permitted, *more),
            inheritable=own.inheritable,
            ambient=own.ambient,
        ),
    )


def _terminal_size() -> ConsoleSize | None:
    try:
        size = os.get_terminal_size(0)
    except OSError:
        return None
    return ConsoleSize(size.lines, size.columns)
