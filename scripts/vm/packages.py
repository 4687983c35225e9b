"""Debian packages for the virtual machine: systemd and what else the machine that builds it need not have.

They are unpacked, not installed: no script of theirs runs, and root is not needed. apt chooses them as for an empty
system, so that all they need is among them.
"""

import subprocess
import sys
from pathlib import Path

# systemd manages control groups, dbus carries what it is asked; criu and apparmor_parser are for tests that need them.
# The tests of storage make file systems, and want cp and mount whole rather than busybox', and ip's namespaces.
WANTED = (
    *("systemd", "dbus", "criu", "apparmor"),
    *("e2fsprogs", "xfsprogs", "coreutils", "util-linux", "mount", "iproute2", "nftables"),
)
# Interpreters of their scripts, none of which is run; Python is the building machine's.
_UNWANTED = ("python3", "libpython3", "perl", "libperl")
_SKIPPED = ("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/lib/udev/hwdb.d/*")


def download(directory: Path) -> list[Path]:
    """The archives of WANTED and of all that they need, fetched once."""
    done = directory / ".complete"
    wanted = " ".join(WANTED)
    if not done.exists() or done.read_text() != wanted:
        (directory / "partial").mkdir(parents=True, exist_ok=True)
        empty = directory / "status"
        empty.write_text("")
        options = {
            "Dir::State::status": empty,
            "Dir::Cache::archives": directory,
            "Debug::NoLocking": 1,
            "APT::Sandbox::User": "root",
        }
        command = ["apt-get", "-qq", "--yes", "--no-install-recommends", "--download-only"]
        for name, value in options.items():
            command += ["-o", f"{name}={value}"]
        try:
            subprocess.run([*command, "install", *WANTED], check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            sys.exit("packages cannot be fetched: needs apt of an amd64 Debian, and `apt-get update` once")
        done.write_text(wanted)
    return sorted(path for path in directory.glob("*.deb") if not path.name.startswith(_UNWANTED))


def unpack(archives: list[Path], root: Path) -> None:
    """Into `root`, whose /bin, /sbin and /lib* are links into /usr already."""
    excluded = [f"--exclude={pattern}" for pattern in _SKIPPED]
    for archive in archives:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as packed:
            tar = ["tar", "--extract", "--keep-directory-symlink", "--no-same-owner", f"--directory={root}", *excluded]
            subprocess.run(tar, stdin=packed.stdout, check=True)
            if packed.wait() != 0:
                sys.exit(f"{archive} is damaged: remove it")
    subprocess.run(["/sbin/ldconfig", "-r", str(root)], check=True)
