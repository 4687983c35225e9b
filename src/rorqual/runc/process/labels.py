"""What AppArmor and SELinux let the user's program do: the profile and the label that it gets at its execve.

The kernel takes them through files of procfs, which must be the host's: they are opened before the rootfs is entered,
and written once nothing but the execve is left that they could forbid. Source: apparmor(7), proc_pid_attr(5).
"""

import os

from rorqual.errdefs import InvalidArgument
from rorqual.record import record
from rorqual.runc.errors import Refusal, reason

_APPARMOR = "/sys/module/apparmor/parameters/enabled"
_SELINUX = "/sys/fs/selinux/enforce"  # selinuxfs is there only where the kernel runs SELinux
_ATTRIBUTES = "/proc/thread-self/attr"

NOT_SELINUX = "selinux label is specified in config, but selinux is disabled or not supported"


def apparmor_is_enabled() -> bool:
    try:
        with open(_APPARMOR, "rb") as f:
            return f.read(1) == b"Y"
    except OSError:
        return False


def selinux_is_enabled() -> bool:
    return os.path.exists(_SELINUX)


def check(apparmor_profile: str, selinux_label: str) -> None:
    """Raises: InvalidArgument where the kernel has nothing that would confine: refused rather than ignored."""
    if apparmor_profile not in ("", "unconfined") and not apparmor_is_enabled():
        raise InvalidArgument("invalid config: process.apparmorProfile: AppArmor is not enabled on this host")
    if selinux_label and not selinux_is_enabled():
        raise InvalidArgument(f"invalid config: process.selinuxLabel: {NOT_SELINUX}")


@record
class Opened:
    """The files to write to, None for what is not asked for. `keys`: the label of the session keyring to be made."""

    apparmor: int | None
    selinux: int | None
    keys: int | None


def open_files(apparmor_profile: str, selinux_label: str, *, keyring: bool) -> Opened:
    """Raises: Refusal."""
    apparmor = selinux = keys = None
    if apparmor_profile and apparmor_is_enabled():
        apparmor = _open("apparmor", "apparmor/exec", "exec")  # before Linux 5.1 there is only the second
    if selinux_label:
        selinux = _open("selinux", "exec")
        if keyring:
            keys = _open("selinux", "keycreate")
    return Opened(apparmor, selinux, keys)


def _open(module: str, *names: str) -> int:
    for name in names:
        path = f"{_ATTRIBUTES}/{name}"
        try:
            return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as e:
            raise Refusal(f"{module} failed to apply profile: open {path}: {reason(e)}") from e
    raise Refusal(f"{module} failed to apply profile: procfs has no file for it")


def label_keys(opened: Opened, label: str) -> None:
    """Before the keyring is made; the execve ends it. The file is closed. Raises: Refusal."""
    _write(opened.keys, "selinux", label, label)


def apply(opened: Opened, apparmor_profile: str, selinux_label: str) -> None:
    """The files are closed. Raises: Refusal, as of a profile that isn't loaded."""
    _write(opened.apparmor, "apparmor", apparmor_profile, f"exec {apparmor_profile}")
    _write(opened.selinux, "selinux", selinux_label, selinux_label)


def _write(fd: int | None, module: str, name: str, text: str) -> None:
    if fd is None:
        return
    try:
        os.write(fd, os.fsencode(text))
    except OSError as e:
        raise Refusal(f"{module} failed to apply profile {name}: {reason(e)}") from e
    finally:
        os.close(fd)


def mount_data(data: str | None, label: str) -> str | None:
    """The file system's options with the label of all its files: quoted, since a label may have a comma."""
    if not label:
        return data
    context = f'context="{label}"'
    return f"{data},{context}" if data else context
