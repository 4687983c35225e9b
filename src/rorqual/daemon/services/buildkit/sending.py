"""A tree of files to a client's directory. Source: fsutil's send.go; the other end of filesync's picture."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence

from grpclib.client import StreamStreamMethod

from rorqual.daemon.services.buildkit.filesync import GO_BITS, GO_DIRECTORY, GO_SYMLINK
from rorqual.errdefs import DataLoss, InvalidArgument
from rorqual.linux import paths
from rorqual.rpc.proto.buildkit_session_pb2 import Packet, Stat
from rorqual.rpc.status import translated

_PIECE_BYTES = 256 << 10
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


async def send(method: StreamStreamMethod[Packet, Packet], metadata: Sequence[tuple[str, str]], root: int) -> int:
    """All below `root`, an fd; how many bytes were asked for. Raises: InvalidArgument, ConnectionLost, OSError."""
    stats = await asyncio.to_thread(_listed, root)
    sent = 0
    with translated("the build's client"):
        async with method.open(metadata=metadata) as stream:
            for one in stats:
                await stream.send_message(Packet(type=Packet.STAT, stat=one))
            await stream.send_message(Packet(type=Packet.STAT))
            while (packet := await stream.recv_message()) is not None:
                if packet.type == Packet.ERR:
                    raise InvalidArgument(f"error from receiver: {packet.data.decode(errors='replace')}")
                if packet.type == Packet.FIN:
                    await stream.send_message(Packet(type=Packet.FIN), end=True)
                    return sent
                if packet.type != Packet.REQ or len(stats) <= packet.ID:
                    raise InvalidArgument(f"invalid file id {packet.ID}")
                fd = await asyncio.to_thread(_opened, root, stats[packet.ID].path)
                try:
                    while piece := await asyncio.to_thread(os.read, fd, _PIECE_BYTES):
                        await stream.send_message(Packet(type=Packet.DATA, ID=packet.ID, data=piece))
                        sent += len(piece)
                finally:
                    os.close(fd)
                await stream.send_message(Packet(type=Packet.DATA, ID=packet.ID))
    raise DataLoss("the build's client ended before it had all files")


def _opened(root: int, path: str) -> int:
    return paths.open_in_root(root, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def _listed(root: int) -> list[Stat]:
    """Parents first, names in their order."""
    found: list[Stat] = []
    seen: dict[tuple[int, int], str] = {}

    def walk(fd: int, prefix: str) -> None:
        for name in sorted(os.listdir(fd)):
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            path = prefix + name
            one = Stat(path=path, uid=info.st_uid, gid=info.st_gid, modTime=info.st_mtime_ns)
            one.mode = stat.S_IMODE(info.st_mode) & 0o777
            one.mode |= sum(go for go, bit in GO_BITS if info.st_mode & bit)
            if stat.S_ISDIR(info.st_mode):
                one.mode |= GO_DIRECTORY
                found.append(one)
                below = os.open(name, _DIRECTORY, dir_fd=fd)
                try:
                    walk(below, f"{path}/")
                finally:
                    os.close(below)
            elif stat.S_ISLNK(info.st_mode):
                one.mode |= GO_SYMLINK
                one.linkname = os.readlink(name, dir_fd=fd)
                found.append(one)
            elif stat.S_ISREG(info.st_mode):
                one.size = info.st_size
                if info.st_nlink > 1:
                    one.linkname = seen.setdefault((info.st_dev, info.st_ino), path)
                    if one.linkname == path:
                        one.linkname = ""
                found.append(one)

    top = os.open(".", _DIRECTORY, dir_fd=root)
    try:
        walk(top, "")
    finally:
        os.close(top)
    return found
