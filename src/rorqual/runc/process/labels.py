"""AppArmor: the profile that the user's program gets at its execve.

The kernel takes it through a file of procfs, which must be the host's: it is opened before the rootfs is entered, and
written once nothing but the execve is left that the profile could forbid. Source: apparmor(7), proc_pid_attr(5).
"""

import os

from rorqual.runc.errors import Refusal, reason

_ENABLED = "/sys/module/apparmor/parameters/enabled"


def apparmor_is_enabled() -> bool:
    try:
        with open(_ENABLED, "rb") as f:
            return f.read(1) == b"Y"
    except OSError:
        return False


def open_apparmor(profile: str) -> int | None:
    """The fd to write this process's next profile to; None when there is none to be set. Raises: Refusal."""
    if not profile or not apparmor_is_enabled():
        return None
    for path in ("/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"):
        try:
            return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # before Linux 5.1 there is only the second
            continue
        except OSError as e:
            raise Refusal(f"apparmor failed to apply profile: open {path}: {reason(e)}") from e
    raise Refusal("apparmor failed to apply profile: procfs has no file for it")


def apply_apparmor(fd: int | None, profile: str) -> None:
    """The fd is closed. Raises: Refusal, as of a profile that isn't loaded."""
    if fd is None:
        return
    try:
        os.write(fd, b"exec " + os.fsencode(profile))
    except OSError as e:
        raise Refusal(f"apparmor failed to apply profile {profile}: {reason(e)}") from e
    finally:
        os.close(fd)
