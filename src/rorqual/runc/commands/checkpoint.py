"""checkpoint, restore: through CRIU, which this runtime does not drive; runc's refusal where CRIU is missing.

The options are taken so that engines see the reason instead of a complaint about an option.
"""

import os

from rorqual.errdefs import NotImplementedHere
from rorqual.runc import container as runc
from rorqual.runc.commands.context import Context
from rorqual.runc.commands.parser import Line, Option, expect, flag, value

_COMMON: tuple[Option, ...] = (
    value("image-path", help="path of the CRIU image files"),
    value("work-path", help="path for saving work files and logs"),
    flag("tcp-established", help="allow open tcp connections"),
    flag("ext-unix-sk", help="allow external unix sockets"),
    flag("shell-job", help="allow shell jobs"),
    flag("file-locks", help="handle file locks, for safety"),
    value("manage-cgroups-mode", help="cgroups mode: soft (default), full or strict"),
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
    runc.load(line.arguments[0], context.root)
    raise _refusal()


def restore(line: Line, context: Context) -> int:
    expect(line, "restore", 1, 1)
    raise _refusal()


def _refusal() -> NotImplementedHere:
    directories = os.environ.get("PATH", os.defpath).split(":")
    if not any(os.access(f"{directory or '.'}/criu", os.X_OK) for directory in directories):
        return NotImplementedHere('CRIU version check failed: exec: "criu": executable file not found in $PATH')
    return NotImplementedHere("checkpoint and restore need CRIU, which this runtime does not drive")
