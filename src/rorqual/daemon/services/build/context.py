"""A build's context: the client's tar, or what a URL gives, unpacked into a directory of the daemon's own.

Everything is opened beneath that directory by fd (CVE-2018-15664): a link in a context leads nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from rorqual.daemon.services.containers import rootfs
from rorqual.daemon.services.pieces import behind
from rorqual.daemon.services.threadbody import ThreadBody
from rorqual.distribution import unpack
from rorqual.errdefs import Cancelled, DataLoss, Error, InvalidArgument
from rorqual.linux import paths
from rorqual.patterns import Ignore, ignore_lines

_DOCKERFILE_MAX = 4 << 20
_IGNORE_MAX = 1 << 20
PREFIXES = ("build-", "add-")  # of directories: contexts, what ADD fetches and unpacks


@dataclass(slots=True)
class Context:
    """`root`: an O_PATH fd of the files. `dockerfile`: its text. `ignored`: what COPY must not see.

    `complete` brings the files that the Dockerfile does not name, for a base image's triggers; None: all are there.
    """

    root: int
    dockerfile: bytes
    ignored: Ignore
    complete: Callable[[], Awaitable[None]] | None = None


def sweep(scratch: str) -> None:
    """Remove the files of builds of a daemon that was killed (blocking; before builds are served)."""
    for name in os.listdir(scratch):
        if name.startswith(PREFIXES):
            shutil.rmtree(os.path.join(scratch, name), ignore_errors=True)


@asynccontextmanager
async def received(
    body: AsyncIterator[bytes], scratch: str, dockerfile: str, text: bytes | None = None
) -> AsyncIterator[Context]:
    """The tar in `body` (compressed or not), for the block; `text` stands for a Dockerfile that is not in it.

    Raises: InvalidArgument, what unpacking raises.
    """
    directory = await asyncio.to_thread(tempfile.mkdtemp, prefix=PREFIXES[0], dir=scratch)
    root = -1
    try:
        root = paths.open_root(directory)
        await _unpacked(body, root)
        if text is None:
            text = await asyncio.to_thread(read_dockerfile, root, dockerfile)
        ignored = await asyncio.to_thread(_ignored, root, dockerfile)
        yield Context(root, text, ignored)
    finally:
        if root >= 0:
            os.close(root)
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, directory, True))


async def _unpacked(body: AsyncIterator[bytes], root: int) -> None:
    first = await anext(body, b"")
    if not first:
        return  # of a Dockerfile that came another way
    stream = ThreadBody()
    pumping = asyncio.create_task(stream.pump(behind(first, body)), name="build context")
    work = partial(unpack.apply, stream, root, copying=unpack.Copying(b"/", None, False))
    try:
        await rootfs.in_own_thread(work, lambda: stream.fail(Cancelled("the build was given up")))
    except Error as e:
        kind = InvalidArgument if isinstance(e, DataLoss) else type(e)  # it is the client's archive
        raise kind(f"Error processing tar file: {e}") from e
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)


def read_dockerfile(root: int, name: str) -> bytes:
    """Its text (blocking). Raises: InvalidArgument."""
    if posixpath.normpath(name.lstrip("/")).startswith(".."):
        raise InvalidArgument(f"forbidden path outside the build context: {name} ()")
    for candidate in (name, name.lower()) if posixpath.basename(name) == "Dockerfile" else (name,):
        try:
            data = paths.read_in_root(root, candidate, _DOCKERFILE_MAX)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        except OSError as e:
            raise InvalidArgument(f"failed to read {name}: {(e.strerror or str(e)).lower()}") from e
        if not data.strip():
            raise InvalidArgument(f"the Dockerfile ({name}) cannot be empty")
        return data
    raise InvalidArgument(f"Cannot locate specified Dockerfile: {name}")


def _ignored(root: int, dockerfile: str) -> Ignore:
    """The Dockerfile's own list goes before the context's. Raises: InvalidArgument."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        try:
            return Ignore.parse(paths.read_in_root(root, name, _IGNORE_MAX))
        except OSError:
            continue
    return Ignore(())


def ignore_patterns(root: int, name: str) -> list[str] | None:
    """The patterns of an ignore file (blocking); None where there is none."""
    try:
        text = paths.read_in_root(root, name, _IGNORE_MAX)
    except OSError:
        return None
    return [f"!{line}" if keep else line for line, keep in ignore_lines(text.decode(errors="replace").splitlines())]
