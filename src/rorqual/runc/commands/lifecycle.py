"""start, kill, delete, pause, resume: one call each."""

from rorqual.errdefs import Conflict, DataLoss, NotFound
from rorqual.runc import container as runc
from rorqual.runc import planning, state
from rorqual.runc.commands.context import Context
from rorqual.runc.commands.parser import Line, expect, flag

KILL_OPTIONS = (flag("all", "a", help="send the signal to all processes inside the container"),)
DELETE_OPTIONS = (flag("force", "f", help="kill the container first if it is still running"),)


def start(line: Line, context: Context) -> int:
    expect(line, "start", 1, 1)
    made = runc.load(line.arguments[0], context.root)
    status = made.status
    if status == state.STOPPED:
        raise Conflict("cannot start a container that has stopped")
    if status == state.RUNNING:
        raise Conflict("cannot start an already running container")
    if status != state.CREATED:
        raise Conflict(f"cannot start a container in the {status} state")
    context.warn(made.start())
    return 0


def kill(line: Line, context: Context) -> int:
    expect(line, "kill", 1, 2)
    made = runc.load(line.arguments[0], context.root)
    number = planning.signal_number(line.arguments[1] if len(line.arguments) > 1 else "SIGTERM")
    if line.has("all"):
        made.kill(number, all_processes=True)
        return 0
    try:
        made.kill(number)
    except NotFound:
        raise Conflict("container not running") from None
    return 0


def delete(line: Line, context: Context) -> int:
    expect(line, "delete", 1, 1)
    force = line.has("force")
    try:
        made = runc.load(line.arguments[0], context.root)
    except (NotFound, DataLoss) as e:
        if isinstance(e, DataLoss) and not force:
            raise
        # A create that was killed early left a directory without a record, or a disk a damaged one.
        directory = state.Directory(context.root, line.arguments[0])
        with directory.removing() as ours:
            if ours:
                directory.remove()
        if force:
            return 0
        raise
    context.warn(made.delete(force=force))
    return 0


def pause(line: Line, context: Context) -> int:
    expect(line, "pause", 1, 1)
    runc.load(line.arguments[0], context.root).pause()
    return 0


def resume(line: Line, context: Context) -> int:
    expect(line, "resume", 1, 1)
    runc.load(line.arguments[0], context.root).resume()
    return 0
