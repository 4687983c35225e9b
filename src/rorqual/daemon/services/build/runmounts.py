"""What `RUN --mount` puts into a command's container, and takes away again.

    bind    files of the context, or of another stage or image      read-only, or a copy that is thrown away
    cache   a directory that stays                                   services.build.caches
    tmpfs   memory
    secret  a file in memory, never on a disk and in no layer        asked of the client; as a variable it is in the
                                                                     container's record for as long as the command runs
    ssh     a socket that leads to the client's agent

Source: Dockerfile reference, "RUN --mount".
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rorqual.api.config import ImageOptions, Mount, TmpfsOptions
from rorqual.builder import copying
from rorqual.builder.dockerfile.mounts import RunMount
from rorqual.builder.dockerfile.stages import Stage
from rorqual.daemon.services.build.context import PREFIXES
from rorqual.daemon.services.build.session import Session
from rorqual.daemon.services.images import layering
from rorqual.errdefs import Error, InvalidArgument, NotFound
from rorqual.linux import paths

log = logging.getLogger(__name__)

_AGENT = "/run/buildkit/ssh_agent.{}"
_SECRET_MODE, _AGENT_MODE = 0o400, 0o600


@dataclass(slots=True)
class Mounted:
    """What a container is to have; `stubs`: the paths that will be there only to mount over, from the top."""

    mounts: list[Mount] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    stubs: list[str] = field(default_factory=list)


def sweep(run: Path) -> None:
    """Remove the secrets of builds of a daemon that was killed (blocking; before builds are served)."""
    shutil.rmtree(run, ignore_errors=True)


async def key(session: Session, stage: Stage, wishes: Sequence[RunMount]) -> str:
    """By which a command with them is found in the cache: what they are, and what files they show. "" for none."""
    if not wishes:
        return ""
    hashed = hashlib.sha256()
    for wish in wishes:
        hashed.update(repr(wish).encode())
        if wish.kind != "bind":
            continue
        named = session.options.contexts.get(wish.origin)
        if wish.origin and (named is None or named.root < 0):
            image = await session.source(wish.origin, stage)
            hashed.update(image.id.encode() if image is not None else b"")
            continue
        root = session.context.root if named is None else named.root
        hashed.update((await asyncio.to_thread(_digest, root, wish.source)).encode())
    return hashed.hexdigest()


def _digest(root: int, source: str) -> str:
    copy = copying.plan([copying.Source(root, source or "/")], [], "/mount/", None, what="RUN --mount")
    try:
        return copy.digest()
    finally:
        copy.close()


@asynccontextmanager
async def mounted(session: Session, stage: Stage, image_id: str, wishes: Sequence[RunMount]) -> AsyncIterator[Mounted]:
    """For the block. Raises: InvalidArgument, NotFound (a source, a secret), OSError."""
    found = Mounted()
    async with AsyncExitStack() as stack:
        for number, wish in enumerate(wishes):
            mount = await _mount(session, stage, wish, number, found, stack)
            if mount is not None:
                found.mounts.append(mount)
        if found.mounts:
            async with session.root(await session.parts.library.find(image_id)) as root:
                names = [await asyncio.to_thread(copying.missing, root, mount.target) for mount in found.mounts]
            found.stubs = sorted({name for group in names for name in group})
        yield found


async def _mount(
    session: Session, stage: Stage, wish: RunMount, number: int, found: Mounted, stack: AsyncExitStack
) -> Mount | None:
    if wish.kind == "tmpfs":
        return Mount("tmpfs", target=wish.target, tmpfs_options=TmpfsOptions(size_bytes=wish.size))
    if wish.kind == "cache":
        if wish.origin or wish.source:
            raise InvalidArgument("a cache mount that begins as a copy (from, source) is not offered")
        path = await stack.enter_async_context(session.parts.caches.using(wish))
        return Mount("bind", path, wish.target, read_only=not wish.writable)
    if wish.kind == "secret":
        return await _secret(session, wish, found, stack)
    if wish.kind == "ssh":
        return await _agent(session, wish, number, found, stack)
    if not wish.origin:
        return await _bind(session, session.context.root, wish, stack)
    if (named := session.options.contexts.get(wish.origin)) is not None and named.root >= 0:
        return await _bind(session, named.root, wish, stack)
    if wish.writable:
        raise InvalidArgument("a writable mount of another stage or image is not offered")
    image = await session.source(wish.origin, stage)
    if image is None:
        raise NotFound(f"mount of {wish.origin}: it has no files")
    subpath = posixpath.normpath("/" + wish.source).lstrip("/")
    options = ImageOptions(subpath) if subpath else None
    return Mount("image", image.id, wish.target, image_options=options)


async def _bind(session: Session, root: int, wish: RunMount, stack: AsyncExitStack) -> Mount:
    """Of a directory that nobody but the build writes to, so that its path is as good as its fd."""

    def located() -> str:
        fd = paths.open_in_root(root, posixpath.normpath("/" + wish.source).lstrip("/") or ".", os.O_PATH, waits=True)
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    try:
        path = await asyncio.to_thread(located)
    except FileNotFoundError as e:
        raise NotFound(f'failed to calculate checksum of ref: "/{wish.source.lstrip("/")}": not found') from e
    if not wish.writable:
        return Mount("bind", path, wish.target, read_only=True)
    directory = await asyncio.to_thread(tempfile.mkdtemp, prefix=PREFIXES[0], dir=session.parts.scratch)
    stack.push_async_callback(asyncio.to_thread, shutil.rmtree, directory, True)
    copy = os.path.join(directory, "copy")
    if os.path.isdir(path):
        await asyncio.to_thread(shutil.copytree, path, copy, symlinks=True)
    else:
        await asyncio.to_thread(shutil.copy2, path, copy)
    return Mount("bind", copy, wish.target)


async def _secret(session: Session, wish: RunMount, found: Mounted, stack: AsyncExitStack) -> Mount | None:
    client = session.options.client
    data = await client.secret(wish.id) if client is not None else None
    if data is None:
        if wish.required:
            raise NotFound(f"secret {wish.id}: not found")
        return None
    if wish.env:
        if b"\0" in data:
            raise InvalidArgument(f"secret {wish.id} cannot be a variable: it has a NUL byte")
        found.env.append(f"{wish.env}={os.fsdecode(data)}")
    if not wish.target:
        return None
    path = os.path.join(await _private(session, stack), "secret")

    def write() -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
            os.fchown(fd, wish.uid, wish.gid)
            os.fchmod(fd, _SECRET_MODE if wish.mode is None else wish.mode)

    await asyncio.to_thread(write)
    return Mount("bind", path, wish.target, read_only=True)


async def _agent(session: Session, wish: RunMount, number: int, found: Mounted, stack: AsyncExitStack) -> Mount | None:
    client = session.options.client
    if client is None or not await client.has_agent(wish.id):
        if wish.required:
            raise NotFound(f"unset ssh forward key {wish.id}")
        return None
    path = os.path.join(await _private(session, stack), "agent")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await client.forward(wish.id, reader, writer)
        except (Error, OSError) as e:
            log.info("ssh agent %s of a build: %s", wish.id, e)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(connected, path)
    stack.callback(server.close)
    os.chown(path, wish.uid, wish.gid)
    os.chmod(path, _AGENT_MODE if wish.mode is None else wish.mode)
    target = wish.target or _AGENT.format(number)
    found.env.append(f"SSH_AUTH_SOCK={target}")
    return Mount("bind", path, target)


async def _private(session: Session, stack: AsyncExitStack) -> str:
    """A directory in memory, of the daemon's own, for as long as the stack is open."""

    def made() -> str:
        session.parts.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.mkdtemp(dir=session.parts.run)

    directory = await asyncio.to_thread(made)
    stack.push_async_callback(asyncio.to_thread, shutil.rmtree, directory, True)
    return directory


async def unstub(session: Session, snapshot_key: str, stubs: Sequence[str]) -> None:
    """Take from a container that has ended the empty places that were made in it only to mount over."""
    if not stubs:
        return
    mounts = await session.parts.snapshots.mounts(snapshot_key)
    stacked = layering.stacked(mounts)
    if stacked is not None:
        directory = stacked[0]
    elif [mount.type for mount in mounts] == ["bind"]:
        directory = mounts[0].source
    else:
        return  # this snapshotter's files cannot be reached: empty places stay in the layer
    await asyncio.to_thread(_unstub, directory, stubs)


def _unstub(directory: str, stubs: Sequence[str]) -> None:
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for stub in sorted(stubs, reverse=True):
            parent, name = posixpath.split(stub)
            try:
                fd = paths.open_in_root(root, parent or ".", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                continue  # the command took it away
            try:
                _remove_empty(fd, name)
            finally:
                os.close(fd)
    finally:
        os.close(root)


def _remove_empty(parent: int, name: str) -> None:
    try:
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            os.rmdir(name, dir_fd=parent)
        elif info.st_size == 0:
            os.unlink(name, dir_fd=parent)
    except OSError:
        return  # the command took it away, or has put something into it
