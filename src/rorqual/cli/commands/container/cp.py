"""`rorqual cp`: a file or a directory between a container and the local file system, or a tar on stdin or stdout.

The rules of source and target are rsync-like; see `plan_target`. Source: docker cp reference.
What comes out of a container is untrusted: it is unpacked by `archive.extract`, beneath the target only.
"""

from __future__ import annotations

import base64
import json
import os

from rorqual import errdefs
from rorqual.cli import archive
from rorqual.cli.command import TWO_ARGS, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.files import read_pieces
from rorqual.cli.streams import write_all
from rorqual.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]

_GO_MODE_DIR = 1 << 31
_GO_MODE_SYMLINK = 1 << 27
MAX_LINKS = 40


def split_argument(text: str) -> tuple[str, str]:
    """(container, path) of `container:path`; ("", path) of a local path, which begins with / or . if it has a colon."""
    if os.path.isabs(text):
        return "", text
    container, colon, path = text.partition(":")
    if not colon or container.startswith("."):
        return "", text
    return container, path


def run(context: Context, flags: Values, args: list[str]) -> None:
    source_container, source = split_argument(args[0])
    target_container, target = split_argument(args[1])
    if source_container and target_container:
        raise CommandError("copying between containers is not supported")
    if not source_container and not target_container:
        raise CommandError("must specify at least one container source")
    if not source:
        raise CommandError("source can not be empty")
    if not target:
        raise CommandError("destination can not be empty")
    if source_container:
        _from_container(context, flags, source_container, source, target)
    else:
        _to_container(context, flags, source, target_container, target)


def _stat(context: Context, container: str, path: str) -> JSON:
    """{"name", "mode" (Go's FileMode), "linkTarget"} of a container's path. Raises: NotFound."""
    header = context.client.containers.stat_path(container, path)
    stat: JSON = json.loads(base64.b64decode(header))
    return stat


def _from_container(context: Context, flags: Values, container: str, source: str, target: str) -> None:
    if target != "-" and flags.boolean("follow-link"):
        stat = _stat(context, container, source)
        if stat["mode"] & _GO_MODE_SYMLINK:
            link = stat["linkTarget"]
            source = link if os.path.isabs(link) else os.path.join(os.path.dirname(source), link)
    response = context.client.containers.get_archive(container, source)
    if target == "-":
        if os.isatty(1):
            response.close()
            raise CommandError("cowardly refusing to copy to a terminal")
        for piece in response.chunks():
            write_all(1, memoryview(piece))
        return
    stat = json.loads(base64.b64decode(response.headers["x-docker-container-path-stat"]))
    is_directory = bool(stat["mode"] & _GO_MODE_DIR)
    copied = archive.extract(
        response.chunks(),
        target,
        source_name=stat["name"],
        source_is_directory=is_directory,
        contents_only=source.endswith("/."),
        keep_owner=flags.boolean("archive"),
    )
    if not flags.boolean("quiet"):
        context.err(f"Successfully copied {human_size(copied, 3)} to {os.path.abspath(target)}")


def _to_container(context: Context, flags: Values, source: str, container: str, target: str) -> None:
    containers = context.client.containers
    target, stat = _resolve_target(context, container, target)
    is_directory = stat is not None and bool(stat["mode"] & _GO_MODE_DIR)
    if source == "-":
        if not is_directory:
            raise CommandError(f'destination "{container}:{target}" must be a directory')
        containers.put_archive(container, target, read_pieces(0), copy_owner=flags.boolean("archive"))
        return
    path = os.path.realpath(source) if flags.boolean("follow-link") else source.rstrip("/") or "/"
    if not os.path.lexists(path):
        raise CommandError(f"lstat {os.path.abspath(path)}: no such file or directory")
    directory, name = plan_target(
        os.path.isdir(path) and not (os.path.islink(path) and not source.endswith("/")),
        os.path.basename(os.path.abspath(path)),
        source.endswith(("/.", "/")) and source.endswith("/."),
        target,
        exists=stat is not None,
        is_directory=is_directory,
    )
    packer = archive.Packer(path, name)
    containers.put_archive(container, directory, packer.pieces(), copy_owner=flags.boolean("archive"))
    if not flags.boolean("quiet"):
        context.err(f"Successfully copied {human_size(packer.size_bytes, 3)} to {container}:{target}")


def _resolve_target(context: Context, container: str, target: str) -> tuple[str, JSON | None]:
    """The target with its final symbolic links followed, and what is there (None: nothing)."""
    for _ in range(MAX_LINKS):
        try:
            stat = _stat(context, container, target)
        except errdefs.NotFound as e:
            if "no such container" in str(e).lower():
                raise
            return target, None
        if not stat["mode"] & _GO_MODE_SYMLINK:
            return target, stat
        link = stat["linkTarget"]
        target = link if os.path.isabs(link) else os.path.join(os.path.dirname(target.rstrip("/")), link)
    raise CommandError(f"too many links: {target}")


def plan_target(
    source_is_directory: bool,
    source_name: str,
    contents_only: bool,
    target: str,
    *,
    exists: bool,
    is_directory: bool,
) -> tuple[str, str]:
    """(directory to unpack in, name there; "." for contents) of a copy to `target`.

    Raises: CommandError for a directory over a file, or a missing directory asked for with a trailing slash.
    """
    if exists and is_directory:
        return target, "." if contents_only else source_name
    if exists:
        if source_is_directory:
            raise CommandError(f"cannot copy directory to file: {target}")
        if target.endswith("/"):
            raise CommandError(f"not a directory: {target}")
    elif target.endswith("/") and not source_is_directory:
        raise CommandError(f"no such directory: {target}")
    trimmed = target.rstrip("/")
    return os.path.dirname(trimmed) or "/", os.path.basename(trimmed)


COMMAND = Command(
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\trorqual cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem\n\n"
    "Use '-' as the source to read a tar archive from stdin\n"
    "and extract it to a directory destination in a container.\n"
    "Use '-' as the destination to stream a tar archive of a\n"
    "container source to stdout.",
    run,
    flags=(
        ("archive", "a", "bool", False, "Archive mode (copy all uid/gid information)"),
        ("follow-link", "L", "bool", False, "Always follow symbol link in SRC_PATH"),
        (
            "quiet",
            "q",
            "bool",
            False,
            "Suppress progress output during copy. Progress output is automatically suppressed if no terminal "
            "is attached",
        ),
    ),
    args=TWO_ARGS,
    aliases="container cp, cp",
)
