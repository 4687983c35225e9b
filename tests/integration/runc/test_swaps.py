"""Everything that a container's start, its execs and its end open is swapped meanwhile, by somebody who has the same
root file system: nothing outside of it is made, changed, mounted on or read. Source: CVE-2021-30465 and its kin."""

import os
import random
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.oci.runtime import Mount, Process, Spec, User

from .conftest import Bundle, wait

pytestmark = pytest.mark.root

# What is swapped: a name in the root, and what takes turns with it, a link out of the root to a directory or a file.
DIRECTORIES = ("dev", "sys", "work", "vol", "vol/inner", "hidden", "kept", "made/below")
FILES = ("etc/passwd", "etc/group", "vol/file", "hidden-file")
SECONDS = 4.0


@contextmanager
def swapping(root: Path, outside: Path, names: list[str]) -> Iterator[None]:
    """Another process exchanges each of `names`, in random order, with a link that leads to `outside`."""
    program = textwrap.dedent(f"""
        import ctypes, os, random
        os.chdir({str(root)!r})
        names = {names!r}
        exchange = ctypes.CDLL(None).renameat2
        while True:
            name = random.choice(names).encode()
            for _ in range(random.randrange(1, 6)):
                exchange(-100, name, -100, name + b'.evil', 2)
    """)
    for name in names:
        target = outside / ("directory" if name in DIRECTORIES else "file")
        (root / f"{name}.evil").symlink_to("../" * 20 + str(target).lstrip("/"))
    swapper = subprocess.Popen([sys.executable, "-S", "-c", program])
    try:
        yield
    finally:
        swapper.kill()
        swapper.wait()


def state_of(outside: Path) -> list[tuple[object, ...]]:
    """All that somebody could have changed there."""
    found = []
    for path in sorted([outside, *outside.rglob("*")]):
        info = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        found.append((path, info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, info.st_nlink, content))
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    top = tmp_path / "outside"
    (top / "directory").mkdir(parents=True)
    (top / "directory" / "secret").write_text("the host's")
    (top / "file").write_text("host:x:0:0:the host's:/:/bin/sh\n")
    return top


@pytest.fixture
def prepared(bundle: Bundle) -> Bundle:
    for name in DIRECTORIES:
        (bundle.rootfs / name).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if not (bundle.rootfs / name).exists():
            (bundle.rootfs / name).write_text("own")
    return bundle


@pytest.mark.parametrize("names", [[*DIRECTORIES, *FILES], ["dev"], ["vol"], ["work", "etc/passwd"]], ids=len)
def test_nothing_outside_is_touched_while_everything_is_swapped(
    prepared: Bundle, outside: Path, tmp_path: Path, names: list[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "source-file").write_text("bound")
    look = (
        "cat /work/secret /hidden/secret /kept/secret /vol/secret /vol/inner/secret /etc/passwd /hidden-file; ls /dev"
    )
    base = prepared.spec(
        "sh",
        "-c",
        f"{look}; touch /work/x /kept/x; sleep 0.02",
        linux={"masked_paths": ("/hidden", "/hidden-file"), "readonly_paths": ("/kept",)},
        process={"cwd": "/work", "user": User(username="www")},
    )
    mounts = (
        *(m for m in base.mounts if not m.destination.startswith(("/dev", "/sys"))),
        Mount("/vol", "bind", str(source), ("rbind", "rprivate")),
        Mount("/vol/inner", "tmpfs", "tmpfs", ()),
        Mount("/vol/file", "bind", str(tmp_path / "source-file"), ("bind",)),
        Mount("/made/below/here", "tmpfs", "tmpfs", ()),
    )
    spec = replace(base, mounts=mounts)
    before, outcomes = state_of(outside), set()
    with swapping(prepared.rootfs, outside, names):
        began = time.monotonic()
        # On a busy machine fewer are tried in the time, and longer, until one has got through.
        while (took := time.monotonic() - began) < SECONDS or ("ran" not in outcomes and took < 10 * SECONDS):
            outcomes.add(attempt(prepared, spec))
            assert state_of(outside) == before
    assert not any(str(outside) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())
    assert "ran" in outcomes, "no start got through: the swapper proves nothing"


def attempt(bundle: Bundle, spec: Spec) -> str:
    """One container, started, with an exec; what came of it."""
    out = os.memfd_create("out")
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        made = bundle.create(spec, stdio=(null, out, out))
    except errdefs.Error:
        return "refused"
    else:
        try:
            made.start()
            if random.random() < 0.5:
                exec_ = Process(args=("cat", "secret"), env=("PATH=/bin",), cwd="/work", user=User(username="www"))
                pid, _ = made.exec(exec_, stdio=(null, out, out))
                wait(pid)
        except errdefs.Error:
            return "ended early"
        finally:
            made.delete(force=True)
            wait(made.pid)
        return "ran"
    finally:
        shown = os.pread(out, 1 << 16, 0)
        os.close(out)
        os.close(null)
        assert b"the host's" not in shown, shown
