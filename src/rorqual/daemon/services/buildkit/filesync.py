"""Files from a client: its directory, file by file, into one of the daemon's own. Source: fsutil's receive.go.

    client                              engine
    STAT path, mode (sorted) ...     -> made at once: directories, links, empty files
                                     <- REQ n: the bytes of the n-th
    DATA n ... DATA n, empty         -> written
    STAT without a stat: the last    -> (when all that was asked for is there)
                                     <- FIN, answered by FIN

Of a file that looks as it did the last time no bytes are asked for. Nothing that the client says can lead out of the
directory: a path's parent must be a directory that came in the same transfer, and nobody else writes there.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from stat import S_IMODE, S_ISDIR, S_ISREG
from urllib.parse import quote_plus

from grpclib.client import Stream, StreamStreamMethod

from rorqual.errdefs import DataLoss, InvalidArgument
from rorqual.rpc.proto.buildkit_session_pb2 import Packet, Stat
from rorqual.rpc.status import translated

# Go's os.FileMode.
GO_DIRECTORY = 1 << 31
GO_SYMLINK = 1 << 27
_GO_SPECIAL = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19  # device, pipe, socket, character device, irregular
GO_BITS = ((1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000))
_BATCH_PACKETS = 512
_QUEUED_PACKETS = 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of the client's directory `name` what `follow` names (all, where it is empty), less what is `excluded`."""

    name: str
    excluded: Sequence[str] = ()
    follow: Sequence[str] = ()

    def metadata(self) -> list[tuple[str, str]]:
        """As the call carries it: values beyond ASCII are quoted, and said to be."""
        found: list[tuple[str, str]] = []
        given = (("dir-name", [self.name]), ("exclude-patterns", self.excluded), ("followpaths", self.follow))
        for key, values in given:
            encoded = any(not value.isascii() for value in values)
            found += [(key, quote_plus(value) if encoded else value) for value in values]
            if encoded:
                found.append((f"{key}-encoded", "1"))
        return found


async def receive(method: StreamStreamMethod[Packet, Packet], wanted: Wanted, root: int) -> int:
    """The files below `root`, an fd of a directory that is empty or has what came the last time; the bytes that came.

    Raises: InvalidArgument (what the client says cannot be), ConnectionLost, what the client refuses with, OSError.
    """
    tree = _Tree(root)
    with translated("the build's client"):
        async with method.open(metadata=wanted.metadata()) as stream:
            await stream.send_request()
            requests: asyncio.Queue[int | None] = asyncio.Queue()
            asking = asyncio.create_task(_ask(stream, requests), name="files asked for")
            try:
                await _received(stream, tree, requests)
                requests.put_nowait(None)
                await asking
                await stream.send_message(Packet(type=Packet.FIN), end=True)
                while await stream.recv_message() is not None:
                    pass
            except (InvalidArgument, OSError) as e:
                await stream.send_message(Packet(type=Packet.ERR, data=str(e).encode()), end=True)
                raise
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await asyncio.to_thread(tree.close)
    return tree.size


async def _ask(stream: Stream[Packet, Packet], requests: asyncio.Queue[int | None]) -> None:
    """Apart from the reading: the client stops to take requests while its answers are not read."""
    while (number := await requests.get()) is not None:
        await stream.send_message(Packet(type=Packet.REQ, ID=number))


async def _received(stream: Stream[Packet, Packet], tree: _Tree, requests: asyncio.Queue[int | None]) -> None:
    """Reads ahead of the disk, and writes many packets in one go."""
    queue: asyncio.Queue[Packet | Exception] = asyncio.Queue(_QUEUED_PACKETS)

    async def read() -> None:
        try:
            while (packet := await stream.recv_message()) is not None:
                await queue.put(packet)
            await queue.put(DataLoss("the build's client ended before its files were whole"))
        except Exception as e:
            await queue.put(e)  # raised where it is waited for

    reading = asyncio.create_task(read(), name="files received")
    try:
        while not tree.whole:
            received = [await queue.get()]
            while len(received) < _BATCH_PACKETS and not queue.empty():
                received.append(queue.get_nowait())
            packets = [packet for packet in received if isinstance(packet, Packet)]
            for number in await asyncio.to_thread(tree.apply, packets):
                requests.put_nowait(number)
            if not tree.whole and isinstance(received[-1], Exception):
                raise received[-1]
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


@dataclass(slots=True)
class _Tree:
    """What is there so far. Its methods block."""

    root: int
    size: int = 0
    _count: int = 0
    _all_known: bool = False
    _directories: dict[str, tuple[int, int]] = field(default_factory=dict)  # mode and time, given at the end
    _files: set[str] = field(default_factory=set)
    _known: set[str] = field(default_factory=set)  # all paths that came
    _pending: dict[int, Stat] = field(default_factory=dict)  # asked for, by their number
    _open: dict[int, int] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Everything that the client has told of is here."""
        return self._all_known and not self._pending

    def apply(self, packets: Sequence[Packet]) -> list[int]:
        """The numbers of the files whose bytes are needed now. Raises: InvalidArgument, OSError."""
        needed: list[int] = []
        for packet in packets:
            if packet.type == Packet.ERR:
                raise InvalidArgument(f"error from sender: {packet.data.decode(errors='replace')}")
            if packet.type == Packet.DATA:
                self._data(packet.ID, packet.data)
            elif packet.type == Packet.STAT and not packet.HasField("stat"):
                self._all_known = True
            elif packet.type == Packet.STAT and self._stat(packet.stat):
                needed.append(self._count - 1)
        if self.whole:
            self._finish()
        return needed

    def _finish(self) -> None:
        """Take away what the client no longer has; directories get their modes and times when nothing changes there."""
        for path in ["", *self._directories]:
            fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.root)
            try:
                for name in os.listdir(fd):
                    if posixpath.join(path, name) not in self._known:
                        _remove(name, fd)
            finally:
                os.close(fd)
        for path, (mode, mtime_ns) in reversed(self._directories.items()):
            os.chmod(path, mode, dir_fd=self.root)
            os.utime(path, ns=(mtime_ns, mtime_ns), dir_fd=self.root)
        self._directories.clear()

    def close(self) -> None:
        """Let go of what is open."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _stat(self, stat: Stat) -> bool:
        """Whether its bytes are needed. Raises: InvalidArgument."""
        number = self._count
        self._count += 1
        path = stat.path
        if path != posixpath.normpath(path) or path.startswith(("/", "../")) or path in (".", "..") or "\0" in path:
            raise InvalidArgument(f"invalid path {path!r} from the build's client")
        parent = posixpath.dirname(path)
        if parent and parent not in self._directories:
            raise InvalidArgument(f"{path!r} came before its directory")
        if path in self._known:
            raise InvalidArgument(f"{path!r} came twice")
        self._known.add(path)
        return self._make(number, stat)

    def _make(self, number: int, stat: Stat) -> bool:
        """Whether its bytes are needed: not where the file of the last time looks the same."""
        path, times = stat.path, (stat.modTime, stat.modTime)
        mode = stat.mode & 0o777 | sum(bit for go, bit in GO_BITS if stat.mode & go)
        there = _there(path, self.root)
        if stat.mode & GO_DIRECTORY:
            if there is None or not S_ISDIR(there.st_mode):
                _remove(path, self.root)
                os.mkdir(path, 0o700, dir_fd=self.root)
            self._directories[path] = mode, stat.modTime
            return False
        if stat.mode & _GO_SPECIAL:
            _remove(path, self.root)
            return False  # nothing to copy
        if stat.mode & GO_SYMLINK:
            _remove(path, self.root)
            os.symlink(stat.linkname, path, dir_fd=self.root)
            os.utime(path, ns=times, dir_fd=self.root, follow_symlinks=False)
            return False
        if stat.linkname:
            if stat.linkname not in self._files:
                raise InvalidArgument(f"invalid link {path} to {stat.linkname}, which was not sent")
            _remove(path, self.root)
            os.link(stat.linkname, path, src_dir_fd=self.root, dst_dir_fd=self.root, follow_symlinks=False)
            self._files.add(path)
            return False
        self._files.add(path)
        # As with BuildKit: size and time tell whether a file has changed. A hard link's name may stand for another now.
        if there is not None and S_ISREG(there.st_mode) and there.st_nlink == 1 and _looks(there) == _told(stat, mode):
            return False
        _remove(path, self.root)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._open[number] = os.open(path, flags, 0o600, dir_fd=self.root)
        self._pending[number] = Stat(path=path, mode=mode, modTime=stat.modTime)
        if not stat.size:
            self._data(number, b"")
            return False
        os.close(self._open.pop(number))
        return True

    def _data(self, number: int, data: bytes) -> None:
        stat = self._pending.get(number)
        if stat is None:
            raise InvalidArgument(f"invalid file request {number}")
        if number not in self._open:
            flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._open[number] = os.open(stat.path, flags, dir_fd=self.root)
        fd = self._open[number]
        if data:
            self.size += len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            return
        os.fchmod(fd, stat.mode)
        os.utime(fd, ns=(stat.modTime, stat.modTime))
        os.close(self._open.pop(number))
        del self._pending[number]


def _looks(there: os.stat_result) -> tuple[int, int, int]:
    return there.st_size, there.st_mtime_ns, S_IMODE(there.st_mode)


def _told(stat: Stat, mode: int) -> tuple[int, int, int]:
    return stat.size, stat.modTime, mode


def _there(path: str, root: int) -> os.stat_result | None:
    try:
        return os.stat(path, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _remove(path: str, root: int) -> None:
    """A file, or a directory with all that is in it; nothing where nothing is."""
    there = _there(path, root)
    if there is not None and S_ISDIR(there.st_mode):
        shutil.rmtree(path, dir_fd=root)
    elif there is not None:
        os.unlink(path, dir_fd=root)
