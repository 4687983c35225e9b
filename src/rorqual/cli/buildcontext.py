"""What `build` sends: a directory without what .dockerignore names, an archive or a Dockerfile from stdin, or nothing.

A Dockerfile from elsewhere (stdin, outside of the directory) goes beside the files under a name that no file has.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import subprocess
import tempfile

from rorqual.cli.errors import CommandError
from rorqual.cli.files import read_pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rorqual.patterns import Ignore

_HEAD_BYTES = 512
_DOCKERFILE_MAX = 4 << 20
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_GIT = ("git://", "git@", "github.com/")


class Context:
    """`pieces` of the tar, None for a `remote` that the engine fetches; `dockerfile`: its name there."""

    __slots__ = ("dockerfile", "pieces", "remote", "temporary")

    def __init__(
        self, pieces: Iterable[bytes] | None, dockerfile: str, *, remote: str = "", temporary: str = ""
    ) -> None:
        self.pieces = pieces
        self.dockerfile = dockerfile
        self.remote = remote
        self.temporary = temporary

    def close(self) -> None:
        """Remove what was fetched for it."""
        if self.temporary:
            shutil.rmtree(self.temporary, ignore_errors=True)


def of(source: str, dockerfile: str) -> Context:
    """The context that the command line names. Raises: CommandError."""
    if source == "-":
        if dockerfile == "-":
            raise CommandError("invalid argument: can't use stdin for both build context and dockerfile")
        return _from_stdin(dockerfile)
    if source.startswith(_GIT) or (source.startswith(("http://", "https://")) and _is_git(source)):
        return _cloned(source, dockerfile)
    if source.startswith(("http://", "https://")):
        return Context(None, dockerfile or "Dockerfile", remote=source)
    return _from_directory(source, dockerfile)


def _is_git(url: str) -> bool:
    return url.partition("#")[0].endswith(".git")


def _from_stdin(dockerfile: str) -> Context:
    head = b""
    while len(head) < _HEAD_BYTES and (piece := os.read(0, _HEAD_BYTES - len(head))):
        head += piece
    if head.startswith(_COMPRESSED) or head[257:262] == b"ustar":
        return Context(itertools.chain((head,), read_pieces(0)), dockerfile or "Dockerfile")
    if dockerfile:
        raise CommandError("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    text = _bounded(itertools.chain((head,), read_pieces(0)))
    name = _unused()
    return Context(_packed(None, None, ((name, text),)), name)


def _bounded(pieces: Iterable[bytes]) -> bytes:
    data = b""
    for piece in pieces:
        data += piece
        if len(data) > _DOCKERFILE_MAX:
            raise CommandError(f"the Dockerfile is larger than {_DOCKERFILE_MAX} bytes")
    return data


def _unused() -> str:
    return f".dockerfile.{secrets.token_hex(10)}"


def _from_directory(directory: str, dockerfile: str) -> Context:
    prefix = "unable to prepare context: "
    if not os.path.exists(directory):
        raise CommandError(f'{prefix}path "{directory}" not found')
    if not os.path.isdir(directory):
        raise CommandError(f"{prefix}context must be a directory: {os.path.abspath(directory)}")
    root = os.path.realpath(directory)
    more: tuple[tuple[str, bytes], ...] = ()
    if dockerfile == "-":
        name = _unused()
        more = ((name, _bounded(read_pieces(0))),)
    else:
        name, more = _dockerfile(root, dockerfile, prefix)
    ignored = _ignored(root, None if more else name)
    kept = {name, ".dockerignore"}

    def hidden(path: str, is_directory: bool) -> bool:
        return path not in kept and ignored.hides(path, directory=is_directory)

    return Context(_packed(root, hidden, more), name)


def _dockerfile(root: str, given: str, prefix: str) -> tuple[str, tuple[tuple[str, bytes], ...]]:
    """(its name in the context, the file itself when it is outside). Raises: CommandError."""
    path = given or os.path.join(root, "Dockerfile")
    if not given and not os.path.exists(path) and os.path.exists(os.path.join(root, "dockerfile")):
        path = os.path.join(root, "dockerfile")
    inside = path if os.path.isabs(path) or os.path.exists(path) else os.path.join(root, path)
    try:
        real = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(inside))), os.path.basename(inside))
        os.stat(real)
    except OSError as e:
        reason = (e.strerror or "").lower()
        raise CommandError(f"{prefix}unable to evaluate symlinks in Dockerfile path: lstat {inside}: {reason}") from e
    relative = os.path.relpath(real, root)
    if relative != ".." and not relative.startswith("../"):
        return relative, ()
    with open(real, "rb") as file:
        return (name := _unused()), ((name, file.read(_DOCKERFILE_MAX + 1)),)


def _ignored(root: str, dockerfile: str | None) -> Ignore:
    """The Dockerfile's own list goes before the directory's. Raises: CommandError."""
    from rorqual.errdefs import InvalidArgument
    from rorqual.patterns import Ignore

    names = [".dockerignore"] if dockerfile is None else [f"{dockerfile}.dockerignore", ".dockerignore"]
    for name in names:
        try:
            with open(os.path.join(root, name), "rb") as file:
                return Ignore.parse(file.read())
        except FileNotFoundError:
            continue
        except OSError as e:
            raise CommandError(f"error reading .dockerignore: {e.strerror}") from e
        except InvalidArgument as e:
            raise CommandError(f"error checking context: {e}") from e
    return Ignore(())


def _packed(
    root: str | None, hidden: Callable[[str, bool], bool] | None, more: tuple[tuple[str, bytes], ...]
) -> Iterator[bytes]:
    from rorqual.cli.archive import Packer

    if root is None:
        with tempfile.TemporaryDirectory() as empty:
            yield from Packer(empty, ".", as_root=True, more=more).pieces()
        return
    yield from Packer(root, ".", hidden=hidden, as_root=True, more=more).pieces()


def _cloned(source: str, dockerfile: str) -> Context:
    """A git repository: `url[#ref[:directory]]`. Raises: CommandError."""
    url, _, fragment = source.partition("#")
    ref, _, below = fragment.partition(":")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    if ref.startswith("-") or url.startswith("-"):
        raise CommandError(f"unable to prepare context: invalid git reference in {source}")
    directory = tempfile.mkdtemp(prefix="rorqual-build-git-")
    steps = (
        ("git", "init", "-q", directory),
        ("git", "-C", directory, "config", "protocol.file.allow", "never"),  # CVE-2022-39253
        ("git", "-C", directory, "fetch", "-q", "--depth", "1", "--", url, ref or "HEAD"),
        ("git", "-C", directory, "checkout", "-q", "FETCH_HEAD"),
        ("git", "-C", directory, "submodule", "-q", "update", "--init", "--recursive", "--depth=1"),
    )
    try:
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                failed = "unable to 'git clone' to temporary context directory"
                raise CommandError(f"unable to prepare context: {failed}: {done.stderr.strip()}")
        root = os.path.realpath(os.path.join(directory, below))
        if root != directory and not root.startswith(f"{os.path.realpath(directory)}/"):
            raise CommandError(f"unable to prepare context: {below} is outside of the repository")
        context = _from_directory(root, os.path.join(root, dockerfile) if dockerfile else "")
    except FileNotFoundError as e:
        shutil.rmtree(directory, ignore_errors=True)
        raise CommandError("unable to prepare context: unable to find 'git'") from e
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    context.temporary = directory
    return context
