"""Capabilities: names, the five sets of this thread, capset(2) and the prctl calls of bounding and ambient sets."""

import ctypes
import errno

from rorqual.linux import libc, process

_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""

NUMBERS: dict[str, int] = {"CAP_" + name: number for number, name in enumerate(_NAMES.split())}

_VERSION_3 = 0x20080522
_AMBIENT_RAISE = 2
_AMBIENT_CLEAR_ALL = 4


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_DataPair = _Data * 2
_capset = libc.function("capset", ctypes.POINTER(_Header), ctypes.POINTER(_Data))
_capget = libc.function("capget", ctypes.POINTER(_Header), ctypes.POINTER(_Data))


def mask(names: tuple[str, ...]) -> int:
    """The bits of the capabilities named. Raises: KeyError of an unknown name."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def permitted() -> int:
    """The permitted set of this thread."""
    header, data = _Header(_VERSION_3, 0), _DataPair()
    libc.check(_capget(header, data))
    return int(data[0].permitted) | int(data[1].permitted) << 32


def known() -> int:
    """All that this kernel has."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as f:
        return (2 << int(f.read())) - 1


def bound_to(bits: int) -> None:
    """Drop from the bounding set all that isn't in `bits`. Needs CAP_SETPCAP."""
    for number in range(64):
        if bits >> number & 1:
            continue
        try:
            process.prctl(process.PR_CAPBSET_DROP, number)
        except OSError as e:
            if e.errno == errno.EINVAL:  # past the kernel's last capability
                return
            raise


def set_all(effective: int, permitted_bits: int, inheritable: int) -> None:
    header = _Header(_VERSION_3, 0)
    low = (effective & 0xFFFFFFFF, permitted_bits & 0xFFFFFFFF, inheritable & 0xFFFFFFFF)
    data = _DataPair(_Data(*low), _Data(effective >> 32, permitted_bits >> 32, inheritable >> 32))
    libc.check(_capset(header, data))


def set_ambient(bits: int) -> None:
    """Exactly `bits`, each of which must be permitted and inheritable."""
    process.prctl(process.PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            process.prctl(process.PR_CAP_AMBIENT, _AMBIENT_RAISE, number)
