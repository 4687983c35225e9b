"""What `cp` packs and unpacks. An archive out of a container must not reach outside the target (see CVE-2018-15664)."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from rorqual.cli.archive import Packer, extract
from rorqual.cli.commands.container.cp import plan_target, split_argument
from rorqual.cli.errors import CommandError


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> list[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in entries:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return [buffer.getvalue()]


def entry(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info, data


def unpack(
    pieces: list[bytes], target: Path, name: str = "src", *, directory: bool = True, contents: bool = False
) -> int:
    return extract(
        pieces, str(target), source_name=name, source_is_directory=directory, contents_only=contents, keep_owner=False
    )


def test_a_tree_goes_there_and_back(tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_bytes(b"x" * 3000)
    (source / "link").symlink_to("sub/file")
    os.chmod(source / "sub" / "file", 0o750)
    packer = Packer(str(source), "src")
    pieces = list(packer.pieces())
    assert packer.size_bytes == sum(map(len, pieces))
    unpack(pieces, tmp_path / "new")
    assert (tmp_path / "new" / "sub" / "file").read_bytes() == b"x" * 3000
    assert (tmp_path / "new" / "sub" / "file").stat().st_mode & 0o777 == 0o750
    assert os.readlink(tmp_path / "new" / "link") == "sub/file"
    (tmp_path / "there").mkdir()
    unpack(pieces, tmp_path / "there")
    assert (tmp_path / "there" / "src" / "sub" / "file").exists()
    unpack(pieces, tmp_path / "there", contents=True)
    assert (tmp_path / "there" / "sub" / "file").exists()


@pytest.mark.parametrize("name", ["../evil", "src/../../evil", "/evil"])
def test_names_that_leave_the_target_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "t").mkdir()
    with pytest.raises(CommandError, match="leaves the target"):
        unpack(tar(entry(name, b"x")), tmp_path / "t")
    assert not (tmp_path / "evil").exists()


def test_no_symbolic_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "t").mkdir()
    hostile = tar(
        entry("src", kind=tarfile.DIRTYPE, mode=0o755),
        entry("src/link", kind=tarfile.SYMTYPE, link=str(outside)),
        entry("src/link/evil", b"x"),
    )
    with pytest.raises(CommandError, match="cannot unpack"):
        unpack(hostile, tmp_path / "t")
    assert list(outside.iterdir()) == []


def test_a_link_in_the_way_is_replaced_not_written_through(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("safe")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "file").symlink_to(canary)
    unpack(tar(entry("file", b"new")), tmp_path / "t", "file", directory=False)
    assert canary.read_text() == "safe"
    assert (tmp_path / "t" / "file").read_text() == "new"


def test_hard_links_stay_inside_and_devices_are_not_made(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    with pytest.raises(CommandError):
        unpack(tar(entry("src/l", kind=tarfile.LNKTYPE, link="../../etc/passwd")), tmp_path / "t")
    unpack(tar(entry("src", kind=tarfile.DIRTYPE, mode=0o755), entry("src/d", kind=tarfile.CHRTYPE)), tmp_path / "t")
    assert not (tmp_path / "t" / "src" / "d").exists()


def test_garbage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot read the archive"):
        unpack([b"\xff" * 2048], tmp_path)


def test_arguments() -> None:
    assert split_argument("c:/x") == ("c", "/x")
    assert split_argument("./a:b") == ("", "./a:b")
    assert split_argument("/a:b") == ("", "/a:b")
    assert split_argument("plain") == ("", "plain")


def test_targets() -> None:
    def plan(target: str, exists: bool, is_directory: bool, source_is_directory: bool = False) -> tuple[str, str]:
        return plan_target(source_is_directory, "n", False, target, exists=exists, is_directory=is_directory)

    assert plan("/d", True, True) == ("/d", "n")
    assert plan("/d/new", False, False) == ("/d", "new")
    with pytest.raises(CommandError, match="cannot copy directory to file"):
        plan("/f", True, False, True)
    with pytest.raises(CommandError, match="no such directory"):
        plan("/no/", False, False)
