"""Two trees compared, and the layer of what differs."""

import io
import os
import random
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rorqual.distribution import unpack
from rorqual.distribution.pack.compare import Kind, Rules, compare, pack_changes

NO_RULES = Rules()


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """A tree, and one that is to become its successor."""
    old = tmp_path / "old"
    for name in ("kept/same", "kept/changed", "gone/below/file", "dir-to-file/x"):
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text(name)
    (old / "file-to-dir").write_text("f")
    os.symlink("kept", old / "link")
    whole_second(old)
    subprocess.run(["cp", "-a", old, tmp_path / "new"], check=True)
    return old, tmp_path / "new"


def whole_second(top: Path) -> None:
    """As an unpacked layer's times are."""
    for path in (*top.rglob("*"), top):
        os.utime(path, (10**9, 10**9), follow_symlinks=False)


def changes(old: Path, new: Path, rules: Rules = NO_RULES) -> dict[str, str]:
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (old, new)]
    before = len(os.listdir("/proc/self/fd"))
    try:
        found = {os.fsdecode(c.name): c.kind.value for c in compare(*fds, rules)}
        assert len(os.listdir("/proc/self/fd")) == before
        return found
    finally:
        for fd in fds:
            os.close(fd)


def members(old: Path | None, new: Path, rules: Rules = NO_RULES) -> list[str]:
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (new, *filter(None, [old]))]
    written = io.BytesIO()
    try:
        pack_changes(fds[1] if old else None, fds[0], lambda data: written.write(data) and None, rules)
    finally:
        for fd in fds:
            os.close(fd)
    written.seek(0)
    with tarfile.open(fileobj=written) as tar:
        return tar.getnames()


def test_what_became_of_each_name(trees: tuple[Path, Path]) -> None:
    old, new = trees
    (new / "kept/changed").write_text("else")
    shutil.rmtree(new / "gone")
    shutil.rmtree(new / "dir-to-file")
    (new / "dir-to-file").write_text("x")
    (new / "file-to-dir").unlink()
    (new / "file-to-dir/deep").mkdir(parents=True)
    (new / "added/deep").mkdir(parents=True)
    (new / "added/deep/file").write_text("1")
    os.utime(new / "kept", (10**9, 10**9))
    assert changes(old, new) == {
        "gone": "deleted",
        "added": "added",
        "added/deep": "added",
        "added/deep/file": "added",
        "dir-to-file": "modified",
        "file-to-dir": "modified",
        "file-to-dir/deep": "added",
        "kept/changed": "modified",
    }
    assert members(old, new) == [
        ".wh.gone",
        *("added", "added/deep", "added/deep/file", "dir-to-file", "file-to-dir", "file-to-dir/deep"),
        *("kept", "kept/changed"),
    ]


def test_equal_trees_have_no_changes(trees: tuple[Path, Path]) -> None:
    assert changes(*trees) == {} and members(*trees) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("kept/same", lambda p: p.chmod(0o600)),
        ("kept/same", lambda p: os.utime(p, (1, 1))),
        ("kept", lambda p: p.chmod(0o700)),
        ("kept", lambda p: os.utime(p, (1, 1))),
        ("link", lambda p: (p.unlink(), os.symlink("gone", p), os.utime(p, (10**9, 10**9), follow_symlinks=False))),
        ("kept/same", lambda p: (p.write_text("KEPT/SAME"), os.utime(p, (10**9, 10**9)))),
    ],
)
def test_one_difference(trees: tuple[Path, Path], name: str, change: Callable[[Path], object]) -> None:
    old, new = trees
    directories = {path: path.stat() for path in (new, new / "kept")}
    change(new / name)
    for path, status in directories.items():
        if str(path.relative_to(new)) != name:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert changes(old, new) == {name: "modified"}


def test_rules_hide_names_and_the_times_of_directories(trees: tuple[Path, Path]) -> None:
    old, new = trees
    (new / "kept/stub").write_text("")
    (new / "added").mkdir()
    (new / "added/stub").write_text("")
    (new / "added/own").write_text("")

    def skip(name: bytes, info: os.stat_result) -> bool:
        return name.endswith(b"/stub") and stat.S_ISREG(info.st_mode)

    rules = Rules(skip=skip, timeless=frozenset((b"kept",)))
    assert changes(old, new, rules) == {"added": "added", "added/own": "added"}
    assert members(old, new, rules) == ["added", "added/own"]
    assert "added/stub" not in members(None, new, rules) and "kept/same" in members(None, new, rules)


def test_a_new_name_brings_the_old_names_of_its_file_along(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for top in (old, new):
        (top / "d").mkdir(parents=True)
        (top / "d/file").write_text("linked")
        (top / "d/other").write_text("not")
        os.link(top / "d/other", top / "d/same")
        whole_second(top)
    (new / "new/deep").mkdir(parents=True)
    os.link(new / "d/file", new / "new/deep/name")
    assert members(old, new) == ["d", "d/file", "new", "new/deep", "new/deep/name"]
    assert set(changes(old, new)) == {"new", "new/deep", "new/deep/name"}


def test_a_tree_deeper_than_any_path_or_stack(tmp_path: Path) -> None:
    tops = [tmp_path / "old", tmp_path / "new"]
    for top in tops:
        top.mkdir()
        here = os.open(top, os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("directory-name", dir_fd=here)
            deeper = os.open("directory-name", os.O_RDONLY, dir_fd=here)
            os.utime(here, (10**9, 10**9))
            os.close(here)
            here = deeper
        if top.name == "new":
            os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.utime(here, (10**9, 10**9))
        os.close(here)
    try:
        (found,) = changes(*tops).items()
        assert found[0].endswith("/leaf") and found[1] == Kind.ADDED.value
    finally:
        for top in tops:
            subprocess.run(["rm", "-rf", top], check=True)


def test_a_layer_over_the_old_tree_is_the_new_one(tmp_path: Path) -> None:
    """At random: what the layer says, done to the old tree, leaves nothing to compare."""
    chooser = random.Random(11)
    for number in range(15):
        old, new, made = (tmp_path / f"{name}-{number}" for name in ("old", "new", "made"))
        grow(old, chooser)
        subprocess.run(["cp", "-a", old, new], check=True)
        subprocess.run(["cp", "-a", old, made], check=True)
        mutate(new, chooser)
        fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (old, new)]
        layer = tmp_path / "layer.tar"
        with layer.open("wb") as file:
            pack_changes(*fds, lambda data, f=file: f.write(data) and None, Rules())  # type: ignore[misc]
        for fd in fds:
            os.close(fd)
        target = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        with layer.open("rb") as source:
            unpack.apply(source, target, whiteouts="plain")
        os.close(target)
        wrong = changes(new, made)
        assert wrong == {}, (number, wrong)


def grow(top: Path, chooser: random.Random) -> None:
    top.mkdir()
    for _ in range(40):
        parent = chooser.choice([top, *(p for p in top.rglob("*") if p.is_dir() and not p.is_symlink())])
        path = parent / f"n{chooser.randrange(8)}"
        if not os.path.lexists(path):
            if chooser.random() < 0.4:
                path.mkdir()
            else:
                path.write_bytes(chooser.randbytes(chooser.randrange(3)))
    whole_second(top)


def mutate(top: Path, chooser: random.Random) -> None:
    for _ in range(12):
        path = chooser.choice([*top.rglob("*"), top / "extra"])
        if not os.path.lexists(path.parent):
            continue
        what = chooser.randrange(5)
        if what == 0 and os.path.lexists(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif what == 1 and path.is_dir():
            shutil.rmtree(path)
            path.write_text("was a directory")
        elif what == 2 and path.is_file():
            path.unlink()
            (path / "inner").mkdir(parents=True)
        elif path.is_dir():
            inner = path / f"n{chooser.randrange(8)}"
            path.chmod(0o711) if what == 4 or inner.exists() else inner.mkdir()
        else:
            path.write_bytes(chooser.randbytes(2))
    for path in (*top.rglob("*"), top):
        os.utime(path, (10**9 + chooser.randrange(2), 10**9 + chooser.randrange(2)))
