"""COPY and ADD: which files go where, and that no link leads out of a context or an image."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rorqual.builder.copying import Copy, Made, Owner, Source, directory, is_archive, plan
from rorqual.errdefs import InvalidArgument, NotFound
from rorqual.patterns import Ignore


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[tuple[int, int, Path, Path]]:
    context, image = tmp_path / "context", tmp_path / "image"
    for path in (context / "dir" / "sub", image / "etc", image / "real"):
        path.mkdir(parents=True)
    (context / "a.txt").write_text("A")
    (context / "b.txt").write_text("B")
    (context / "dir" / "x").write_text("X")
    (context / "dir" / "sub" / "y").write_text("Y")
    (context / "dir" / ".wh.z").write_text("")
    (context / "link").symlink_to("a.txt")
    (context / "out").symlink_to("/etc/passwd")
    (context / "up").symlink_to("../../../../etc/passwd")
    (image / "linked").symlink_to("real")
    (image / "away").symlink_to("../../../..")
    (image / "file").write_text("")
    fds = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in (context, image)]
    yield fds[0], fds[1], context, image
    for fd in fds:
        os.close(fd)


def members(copy: Copy) -> dict[str, tarfile.TarInfo]:
    buffer = io.BytesIO()
    try:
        copy.pack(buffer.write)
    finally:
        copy.close()
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as tar:
        return {info.name: info for info in tar}


def names(sources: list[str], to: str, roots: tuple[int, int, Path, Path], ignored: Ignore | None = None) -> list[str]:
    return sorted(members(plan([Source(roots[0], path, ignored) for path in sources], (), to, roots[1])))


@pytest.mark.parametrize(
    ("sources", "to", "found"),
    [
        (["a.txt"], "/b", ["b"]),
        (["a.txt"], "/etc", ["etc/a.txt"]),
        (["a.txt"], "/new/", ["new", "new/a.txt"]),
        (["a.txt"], "/new/deep/b", ["new", "new/deep", "new/deep/b"]),
        (["a.txt"], "/linked/", ["real/a.txt"]),
        (["a.txt"], "/linked/b", ["real/b"]),
        (["a.txt"], "/away/etc/b", ["etc/b"]),
        (["a.txt", "b.txt"], "/d/", ["d", "d/a.txt", "d/b.txt"]),
        (["*.txt"], "/d/", ["d", "d/a.txt", "d/b.txt"]),
        (["dir"], "/d", ["d", "d/sub", "d/sub/y", "d/x"]),
        (["dir"], "/etc", ["etc/sub", "etc/sub/y", "etc/x"]),
        (["/dir/"], "/d", ["d", "d/sub", "d/sub/y", "d/x"]),
        (["d?r/s*"], "/d", ["d", "d/y"]),
        (["dir/../a.txt"], "/d/", ["d", "d/a.txt"]),
        (["../../a.txt"], "/d/", ["d", "d/a.txt"]),
        (["link"], "/d/", ["d", "d/link"]),
    ],
)
def test_where_everything_goes(
    sources: list[str], to: str, found: list[str], roots: tuple[int, int, Path, Path]
) -> None:
    assert names(sources, to, roots) == found


@pytest.mark.parametrize(
    ("sources", "to", "error"),
    [
        (["nosuch"], "/d", "COPY failed: file not found in build context or excluded by .dockerignore: stat nosuch"),
        (["nosuch*"], "/d", "COPY failed: no source files were specified"),
        (["a.txt", "b.txt"], "/d", "the destination must be a directory and end with a /"),
        (["a.txt"], "/file/", "cannot copy to non-directory: /file"),
        (["dir"], "/file", "cannot copy to non-directory: /file"),
        (["a.txt"], "/file/x", "cannot copy to non-directory: /file"),
        (["out"], "/d", "file not found in build context"),
        (["up"], "/d", "file not found in build context"),
        (["a.txt/"], "/d", "file not found in build context"),
        (["[a"], "/d", "syntax error in pattern"),
    ],
)
def test_what_cannot_be_copied(sources: list[str], to: str, error: str, roots: tuple[int, int, Path, Path]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises((NotFound, InvalidArgument), match=error):
        plan([Source(roots[0], path) for path in sources], (), to, roots[1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_link_leads_to_the_context_not_to_the_host(roots: tuple[int, int, Path, Path]) -> None:
    """CVE-2018-15664: /etc/passwd of a context's link is the context's own."""
    (roots[2] / "etc").mkdir()
    (roots[2] / "etc" / "passwd").write_text("the context's")
    copy = plan([Source(roots[0], "out")], (), "/d", roots[1])
    assert members(copy)["d"].size == len("the context's")


def test_an_empty_image_has_no_directory(roots: tuple[int, int, Path, Path]) -> None:
    copy = plan([Source(roots[0], "a.txt")], (), "/a/b/", None)
    assert list(members(copy)) == ["a", "a/b", "a/b/a.txt"]


def test_owner_mode_and_times(roots: tuple[int, int, Path, Path]) -> None:
    os.utime(roots[2] / "a.txt", (5, 5))
    os.chmod(roots[2] / "a.txt", 0o640)
    copy = plan([Source(roots[0], "a.txt")], (), "/new/", roots[1])
    info = members(copy)["new/a.txt"]
    assert (info.uid, info.gid, info.mode, info.mtime) == (0, 0, 0o640, 5)
    copy = plan([Source(roots[0], "a.txt")], (Made("made", b"data"),), "/new/", roots[1])
    copy.owner, copy.mode = Owner(7, 8), 0o755
    found = members(copy)
    assert {(i.uid, i.gid, i.mode) for i in found.values()} == {(7, 8, 0o755)} and found["new/made"].size == 4


def test_what_is_ignored_is_not_there(roots: tuple[int, int, Path, Path]) -> None:
    ignore = Ignore(["dir/sub", "a.txt"])
    assert names(["dir"], "/d", roots, ignore) == ["d", "d/x"]
    assert names(["*.txt"], "/d/", roots, ignore) == ["d", "d/b.txt"]
    with pytest.raises(NotFound, match=r"excluded by .dockerignore: stat a.txt"):
        names(["a.txt"], "/d/", roots, ignore)
    assert names(["dir"], "/d", roots, Ignore(["dir", "!dir/sub/y"])) == ["d", "d/sub", "d/sub/y"]


def test_the_digest_is_of_what_is_copied_and_not_of_times(roots: tuple[int, int, Path, Path]) -> None:
    def digest() -> str:
        copy = plan([Source(roots[0], "dir")], (), "/d", roots[1])
        try:
            return copy.digest()
        finally:
            copy.close()

    before = digest()
    os.utime(roots[2] / "dir" / "x", (1, 1))
    assert digest() == before
    os.chmod(roots[2] / "dir" / "x", 0o600)
    changed = digest()
    assert changed != before
    (roots[2] / "dir" / "x").write_text("Z")
    assert digest() not in (before, changed)


def test_a_working_directory_is_made_where_it_is_missing(roots: tuple[int, int, Path, Path]) -> None:
    assert directory("/etc", roots[1]).parents == ()
    assert directory("/linked/w", roots[1]).parents == ("real/w",)
    assert directory("/a/b", None).parents == ("a", "a/b")
    with pytest.raises(InvalidArgument, match="non-directory"):
        directory("/file", roots[1])


def test_archives_are_told_by_their_content(roots: tuple[int, int, Path, Path]) -> None:
    with tarfile.open(roots[2] / "t.bin", "w") as tar:
        tar.add(roots[2] / "a.txt", "a")
    with tarfile.open(roots[2] / "t.gz", "w:gz") as tar:
        tar.add(roots[2] / "a.txt", "a")
    assert [is_archive(roots[0], name) for name in ("t.bin", "t.gz", "a.txt", "dir", "nosuch")] == [True, True] + [
        False
    ] * 3
