"""Archives between the engine and files: written whole or not at all, read in pieces."""

from __future__ import annotations

import os

from rorqual.cli.errors import CommandError
from rorqual.cli.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rorqual.client.http1 import Response

PIECE_BYTES = 1 << 20


def save_stream(open_stream: Callable[[], Response], path: str, terminal_text: str, prefix: str) -> None:
    """Write a response's body to `path` ("" is stdout); a file appears only when it is complete.

    Raises: CommandError when stdout is a terminal or `path` cannot be written.
    """
    if not path:
        if os.isatty(1):
            raise CommandError(terminal_text)
        for piece in open_stream().chunks():
            write_all(1, memoryview(piece))
        return
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise CommandError(f'{prefix}: invalid output path: directory "{directory}" does not exist')
    if os.path.exists(path) and not os.path.isfile(path):
        if os.path.isdir(path):
            raise CommandError(f"{prefix}: {path}: is a directory")
        with open(path, "wb", buffering=0) as file:
            for piece in open_stream().chunks():
                write_all(file.fileno(), memoryview(piece))
        return
    response = open_stream()
    temporary = os.path.join(directory, f".tmp-{os.path.basename(path)}{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            for piece in response.chunks():
                write_all(fd, memoryview(piece))
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_pieces(fd: int) -> Iterator[bytes]:
    """What can be read from `fd`, to its end."""
    while piece := os.read(fd, PIECE_BYTES):
        yield piece
