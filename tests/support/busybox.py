"""A root file system around the machine's statically linked busybox, made once per test session."""

import functools
import io
import shutil
import subprocess
import tarfile

_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nalice:x:1000:1000::/home/alice:/bin/sh\n"
    "postgres:x:70:70::/var/lib/postgresql:/bin/sh\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\nalice:x:1000:\naudio:x:29:alice\n",
    "etc/shadow": "root:*:::::::\n",
}
_DIRECTORIES = (
    "bin",
    "dev",
    "etc",
    "home",
    "home/alice",
    "proc",
    "root",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "var",
    "var/opt",
    "var/tmp",
)


@functools.cache
def rootfs_tar() -> bytes:
    """The tar's bytes; the image made of it is about 2 MB."""
    busybox = shutil.which("busybox")
    assert busybox, "busybox-static is not installed"
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in _DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name.endswith("tmp") else 0o755
            tar.addfile(entry)
        for name, text in _FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
        entry = tarfile.TarInfo("bin/busybox")
        with open(busybox, "rb") as program:
            content = program.read()
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
    return out.getvalue()
