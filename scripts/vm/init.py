"""The program of the virtual machine: the tests, and their result on the serial port.

As PID 1 it first makes mounts and cgroup v2 itself; as a service of systemd it finds all that done.
"""

import os
import subprocess
import sys
from pathlib import Path

RESULT = "rorqual-vm-result"  # run.py waits for the line that starts with it


def mount(kind: str, target: str, options: str = "") -> None:
    Path(target).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", kind, *(["-o", options] if options else []), kind, target], check=True)


def prepare() -> None:
    os.environ.update(PATH="/usr/bin:/bin:/usr/sbin", HOME="/root", PYTHONPATH="/rorqual/src:/site")
    os.environ["RORQUAL_TEST_SLOWNESS"] = "10"
    if os.getpid() == 1:
        be_init()
    for name in sorted(os.listdir("/modules")):
        parameters = ["nr_devices=1", "gb=1"] if "null_blk" in name else []
        subprocess.run(["busybox", "insmod", f"/modules/{name}", *parameters], check=False)


def be_init() -> None:
    mount("proc", "/proc")
    mount("sysfs", "/sys")
    mount("devtmpfs", "/dev")
    mount("devpts", "/dev/pts", "ptmxmode=666")
    mount("tmpfs", "/dev/shm")
    mount("tmpfs", "/run")
    mount("cgroup2", "/sys/fs/cgroup")
    # As systemd does it: nobody runs in the root group, so that all controllers can be given to the groups below.
    os.mkdir("/sys/fs/cgroup/init.scope")
    Path("/sys/fs/cgroup/init.scope/cgroup.procs").write_text("0")
    for name in ("fd", "stdin:fd/0", "stdout:fd/1", "stderr:fd/2"):
        link, _, target = name.partition(":")
        if not os.path.lexists(f"/dev/{link}"):
            os.symlink(f"/proc/self/{target or 'fd'}", f"/dev/{link}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def arguments() -> list[str]:
    """What the host has asked for, from the kernel's command line (blanks as %20)."""
    for word in Path("/proc/cmdline").read_text().split():
        name, _, value = word.partition("=")
        if name == "rorqual.pytest":
            return [part.replace("%20", " ") for part in value.split("%00")]
    return []


def main() -> None:
    status = 125
    try:
        prepare()
        chosen = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-o",
            "tmp_path_retention_policy=failed",
            "--color=no",
            *arguments(),
        ]
        status = subprocess.run(chosen, cwd="/rorqual", check=False).returncode
    finally:
        sys.stdout.write(f"\n{RESULT} {status}\n")
        sys.stdout.flush()
        subprocess.run(["poweroff", "-f"], check=False)


main()
