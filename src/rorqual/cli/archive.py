"""Tar for `cp`: packing a local tree, and unpacking an engine's archive beneath a target.

An archive out of a container is hostile input (CVE-2018-15664's other side): names are taken relative to one open
directory, component by component, no symbolic link is followed, no device is made.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile

from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO, cast

PIECE_BYTES = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Packer:
    """A tar of `path` under the name `name` ("." packs a directory's contents); `size_bytes` is its length so far.

    With `hidden`, what it says yes to (path below `path`, whether it is a directory) is left out, a directory with all
    in it. With `as_root` everything belongs to 0:0. `more` are files (name, content) that come last.
    """

    def __init__(
        self,
        path: str,
        name: str,
        *,
        hidden: Callable[[str, bool], bool] | None = None,
        as_root: bool = False,
        more: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        self._path = path
        self._name = name
        self._hidden = hidden
        self._as_root = as_root
        self._more = more
        self.size_bytes = 0

    def pieces(self) -> Iterator[bytes]:
        sink = _Sink()
        with tarfile.open(fileobj=_as_binary(sink), mode="w|", format=tarfile.PAX_FORMAT, bufsize=PIECE_BYTES) as tar:
            for path, name in self._entries():
                info = tar.gettarinfo(path, name)
                if info is None:  # a socket: tar has no entry for it
                    continue
                if self._as_root:
                    info.uid = info.gid = 0
                    info.uname = info.gname = ""
                if info.isreg():
                    with open(path, "rb") as file:
                        tar.addfile(info, file)
                else:
                    tar.addfile(info)
                yield from self._drain(sink)
            for name, content in self._more:
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o600
                tar.addfile(info, io.BytesIO(content))
        yield from self._drain(sink)

    def _drain(self, sink: _Sink) -> Iterator[bytes]:
        for piece in sink.take():
            self.size_bytes += len(piece)
            yield piece

    def _entries(self) -> Iterator[tuple[str, str]]:
        yield self._path, self._name
        if os.path.islink(self._path) or not os.path.isdir(self._path):
            return
        for directory, names, files in os.walk(self._path):
            relative = os.path.relpath(directory, self._path)
            if self._hidden is not None:
                below = "" if relative == "." else f"{relative}/"
                names[:] = [name for name in names if not self._hidden(f"{below}{name}", True)]
                files = [name for name in files if not self._hidden(f"{below}{name}", False)]
            for entry in sorted([*names, *files]):
                yield os.path.join(directory, entry), os.path.normpath(os.path.join(self._name, relative, entry))


class _Sink:
    """A file object that keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces


class _Source:
    """A file object over pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""
        self.size_bytes = 0

    def read(self, size: int) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while have < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        self._rest = data[size:]
        self.size_bytes += min(size, len(data))
        return data[:size]


def _as_binary(file: object) -> BinaryIO:
    """tarfile's streaming modes use only read or write of what its types call BinaryIO."""
    if TYPE_CHECKING:
        return cast(BinaryIO, file)
    return file


def extract(
    pieces: Iterable[bytes],
    target: str,
    *,
    source_name: str,
    source_is_directory: bool,
    contents_only: bool,
    keep_owner: bool,
) -> int:
    """Unpack an archive whose root entry is `source_name` to `target`; the archive's size in bytes.

    Raises: CommandError when the target does not fit, or the archive names something outside of it.
    """
    parent, rename = _plan(target, source_name, source_is_directory, contents_only)
    source = _Source(pieces)
    root = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    directories: list[tuple[list[str], tarfile.TarInfo]] = []
    try:
        with tarfile.open(fileobj=_as_binary(source), mode="r|", bufsize=PIECE_BYTES) as tar:
            for info in tar:
                parts = _renamed(info.name, source_name, rename)
                if info.islnk():
                    info.linkname = "/".join(_renamed(info.linkname, source_name, rename))
                _entry(root, parts, info, tar, keep_owner)
                if info.isdir():
                    directories.append((parts, info))
        # Times of directories last: writing into them changes those.
        for parts, info in reversed(directories):
            if parts:
                with _Parent(root, parts) as (fd, name):
                    os.utime(name, (info.mtime, info.mtime), dir_fd=fd, follow_symlinks=False)
    except tarfile.TarError as e:
        raise CommandError(f"cannot read the archive from the engine: {e}") from e
    finally:
        os.close(root)
    while source.read(PIECE_BYTES):
        pass
    return source.size_bytes


def _plan(target: str, source_name: str, is_directory: bool, contents_only: bool) -> tuple[str, str]:
    """(existing local directory to unpack in, name that the archive's root gets there)."""
    if os.path.isdir(target):
        return target, "" if contents_only and is_directory else source_name
    if os.path.lexists(target):
        if is_directory:
            raise CommandError(f"cannot copy directory to file: {target}")
        if target.endswith("/"):
            raise CommandError(f"not a directory: {target}")
    elif target.endswith("/") and not is_directory:
        raise CommandError(f"no such directory: {target}")
    trimmed = target.rstrip("/")
    parent = os.path.dirname(trimmed) or "."
    if not os.path.isdir(parent):
        raise CommandError(f"invalid output path: directory {os.path.abspath(parent)!r} does not exist")
    return parent, os.path.basename(trimmed)


def _renamed(name: str, root: str, rename: str) -> list[str]:
    """The components of an entry's name with the root's name replaced; those of the root `/` begin with a slash.

    Raises: CommandError for a name that leaves the target.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or (name.startswith("/") and root != "/"):
        raise CommandError(f"archive entry leaves the target: {name!r}")
    root_parts = [part for part in root.split("/") if part not in ("", ".")]
    if root_parts and parts[: len(root_parts)] == root_parts:
        parts = parts[len(root_parts) :]
    return ([rename] if rename else []) + parts


class _Parent:
    """The open parent directory of a path below `root`, no symbolic link followed on the way."""

    __slots__ = ("_fd", "_parts", "_root")

    def __init__(self, root: int, parts: list[str]) -> None:
        self._root = root
        self._parts = parts
        self._fd = -1

    def __enter__(self) -> tuple[int, str]:
        fd = os.dup(self._root)
        try:
            for part in self._parts[:-1]:
                try:
                    inner = os.open(part, _DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=fd)
                    inner = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = inner
        except OSError as e:
            os.close(fd)
            raise CommandError(f"cannot unpack {'/'.join(self._parts)!r}: {e.strerror}") from e
        self._fd = fd
        return fd, self._parts[-1]

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)


def _entry(root: int, parts: list[str], info: tarfile.TarInfo, tar: tarfile.TarFile, keep_owner: bool) -> None:
    if not parts:
        return
    with _Parent(root, parts) as (fd, name):
        mode = info.mode & 0o7777
        if info.isdir():
            try:
                os.mkdir(name, 0o700, dir_fd=fd)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode):
                    raise CommandError(f"cannot copy directory to file: {'/'.join(parts)}") from None
            _finish(fd, name, info, keep_owner)
            os.chmod(name, mode, dir_fd=fd)
            return
        _unlink(fd, name)
        if info.issym():
            os.symlink(info.linkname, name, dir_fd=fd)
            if keep_owner:
                os.chown(name, info.uid, info.gid, dir_fd=fd, follow_symlinks=False)
            return
        if info.islnk():
            link = [part for part in info.linkname.split("/") if part not in ("", ".")]
            with _Parent(root, link) as (link_fd, link_name):
                os.link(link_name, name, src_dir_fd=link_fd, dst_dir_fd=fd, follow_symlinks=False)
            return
        if info.isfifo():
            os.mkfifo(name, mode & 0o777, dir_fd=fd)
            return
        if not info.isreg():
            # Devices out of a container are not made on the host.
            return
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
        try:
            reader = tar.extractfile(info)
            assert reader is not None
            while piece := reader.read(PIECE_BYTES):
                view = memoryview(piece)
                while view:
                    view = view[os.write(file, view) :]
            if keep_owner:
                os.fchown(file, info.uid, info.gid)
            os.fchmod(file, mode)
            os.utime(file, (info.mtime, info.mtime))
        finally:
            os.close(file)


def _finish(fd: int, name: str, info: tarfile.TarInfo, keep_owner: bool) -> None:
    if keep_owner:
        os.chown(name, info.uid, info.gid, dir_fd=fd, follow_symlinks=False)


def _unlink(fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return
    except IsADirectoryError as e:
        raise CommandError(f"cannot copy a file over the directory {name!r}") from e
