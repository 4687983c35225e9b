"""checkpoint, restore: through CRIU (rorqual.runc.criu); runc's refusal where it is missing."""

import os

from rorqual.errdefs import Error, InvalidArgument, NotImplementedHere
from rorqual.linux import process
from rorqual.oci.runtime import Spec
from rorqual.runc import container as runc
from rorqual.runc.commands import foreground
from rorqual.runc.commands.context import Context
from rorqual.runc.commands.parser import Line, Option, expect, flag, value
from rorqual.runc.commands.run import load_config
from rorqual.runc.creation import write_pid_file
from rorqual.runc.criu.options import Options, last_errors

_COMMON: tuple[Option, ...] = (
    value("image-path", help="path of the CRIU image files"),
    value("work-path", help="path for saving work files and logs"),
    flag("tcp-established", help="allow open tcp connections"),
    flag("ext-unix-sk", help="allow external unix sockets"),
    flag("shell-job", help="allow shell jobs"),
    flag("file-locks", help="handle file locks, for safety"),
    value("manage-cgroups-mode", help="cgroups mode: soft (default), full, strict or ignore"),
    value("empty-ns", help="create a namespace, but don't restore its properties"),
    flag("auto-dedup", help="enable auto deduplication of memory images"),
    flag("lazy-pages", help="use userfaultfd to restore memory pages lazily"),
)
CHECKPOINT_OPTIONS = (
    *_COMMON,
    value("parent-path", help="path of previous CRIU image files in pre-dump"),
    flag("leave-running", help="leave the process running after checkpointing"),
    value("status-fd", help="CRIU writes \\0 to this fd once lazy-pages is ready"),
    value("page-server", help="ADDRESS:PORT of the page server"),
    flag("pre-dump", help="dump the container's memory only, leave it running after this"),
)
RESTORE_OPTIONS = (
    *_COMMON,
    value("console-socket", help="AF_UNIX socket which receives the master end of the console's pseudoterminal"),
    value("bundle", "b", help="path to the root of the bundle directory"),
    flag("detach", "d", help="detach from the container's process"),
    value("pid-file", help="the file to write the process id to"),
    flag("no-subreaper", help="do not become the reaper of orphaned processes"),
    flag("no-pivot", help="do not use pivot_root"),
    value("lsm-profile", help="LSM profile to be used during restore, TYPE:NAME"),
    value("lsm-mount-context", help="LSM mount context to be used during restore"),
)


def checkpoint(line: Line, context: Context) -> int:
    expect(line, "checkpoint", 1, 1)
    made = runc.load(line.arguments[0], context.root)
    options = _options(line)
    try:
        made.checkpoint(options)
    except Error:
        context.warn(last_errors(options, "dump.log"))
        raise
    if not options.leave_running and not options.pre_dump:
        context.warn(made.delete(force=True))
    return 0


def restore(line: Line, context: Context) -> int:
    expect(line, "restore", 1, 1)
    detach = line.has("detach")
    if context.systemd_cgroup:
        raise NotImplementedHere("restore makes control groups by itself only: without --systemd-cgroup")
    bundle = os.path.abspath(line.get("bundle") or ".")
    data = load_config(bundle)
    spec = Spec.from_json(data)
    terminal = spec.process is not None and spec.process.terminal
    foreground.check_terminal(terminal, detach, line.get("console-socket"))
    if not line.has("no-subreaper"):
        process.set_child_subreaper()
    options = _options(line)
    front = None if detach else foreground.Foreground()
    try:
        made = runc.restore(line.arguments[0], bundle, data, options, root=context.root)
    except Error:
        context.warn(last_errors(options, "restore.log"))
        raise
    try:
        context.warn(made.warnings)
        if line.get("pid-file"):
            write_pid_file(os.path.abspath(line.get("pid-file")), made.pid)
        if front is not None:
            return front.wait(made.pid, made.console_fd)
        if made.console_fd is not None:
            foreground.send_fd(line.get("console-socket"), made.console_fd, "/dev/ptmx")
        return 0
    finally:
        if front is not None:
            context.warn(made.delete(force=True))


def _options(line: Line) -> Options:
    """Raises: InvalidArgument."""
    image_path = os.path.abspath(line.get("image-path") or "checkpoint")
    parent_path = line.get("parent-path")
    if parent_path.startswith("/"):
        raise InvalidArgument("--parent-path must be relative")
    parent = os.path.normpath(f"{image_path}/{parent_path}")
    if not os.path.isdir(parent) and parent_path:
        raise InvalidArgument(f"invalid --parent-path: {parent} is not a directory")
    for kind in line.get("empty-ns").split(",") if line.get("empty-ns") else ():
        if kind != "network":
            raise InvalidArgument(f'namespace "{kind}" is not supported')
    status_fd = line.number("status-fd")
    return Options(
        image_path=image_path,
        work_path=os.path.abspath(line.get("work-path")) if line.get("work-path") else "",
        parent_path=parent_path,
        leave_running=line.has("leave-running"),
        tcp_established=line.has("tcp-established"),
        ext_unix_sk=line.has("ext-unix-sk"),
        shell_job=line.has("shell-job"),
        file_locks=line.has("file-locks"),
        pre_dump=line.has("pre-dump"),
        auto_dedup=line.has("auto-dedup"),
        lazy_pages=line.has("lazy-pages"),
        status_fd=-1 if status_fd is None else status_fd,
        page_server=_page_server(line.get("page-server")),
        manage_cgroups_mode=line.get("manage-cgroups-mode"),
        lsm_profile=line.get("lsm-profile"),
        lsm_mount_context=line.get("lsm-mount-context"),
    )


def _page_server(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    address, _, port = text.rpartition(":")
    if not address or not port:
        raise InvalidArgument("Use --page-server ADDRESS:PORT to specify page server")
    if not port.isdigit() or int(port) > 65535:
        raise InvalidArgument("Invalid port number")
    return address.strip("[]"), int(port)
