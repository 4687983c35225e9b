"""seccomp(2), and libseccomp's compiler from rules to BPF through ctypes."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence

from rorqual.linux import libc
from rorqual.record import record

_SET_MODE_FILTER = 1

FLAGS: dict[str, int] = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}
FLAG_NEW_LISTENER = 1 << 3

ACT_KILL_PROCESS = 0x80000000
ACT_KILL_THREAD = 0x00000000
ACT_TRAP = 0x00030000
ACT_ERRNO = 0x00050000
ACT_NOTIFY = 0x7FC00000
ACT_TRACE = 0x7FF00000
ACT_LOG = 0x7FFC0000
ACT_ALLOW = 0x7FFF0000

# runtime-spec's name without SCMP_ARCH_ -> (libseccomp's name, AUDIT_ARCH_* as the kernel reports it in seccomp_data)
ARCHITECTURES: dict[str, tuple[str, int]] = {
    "X86": ("x86", 0x40000003),
    "X86_64": ("x86_64", 0xC000003E),
    "X32": ("x32", 0xC000003E),
    "ARM": ("arm", 0x40000028),
    "AARCH64": ("aarch64", 0xC00000B7),
    "MIPS": ("mips", 0x00000008),
    "MIPS64": ("mips64", 0x80000008),
    "MIPS64N32": ("mips64n32", 0xA0000008),
    "MIPSEL": ("mipsel", 0x40000008),
    "MIPSEL64": ("mipsel64", 0xC0000008),
    "MIPSEL64N32": ("mipsel64n32", 0xE0000008),
    "PPC": ("ppc", 0x00000014),
    "PPC64": ("ppc64", 0x80000015),
    "PPC64LE": ("ppc64le", 0xC0000015),
    "PARISC": ("parisc", 0x0000000F),
    "PARISC64": ("parisc64", 0x8000000F),
    "RISCV64": ("riscv64", 0xC00000F3),
    "LOONGARCH64": ("loongarch64", 0xC0000102),
    "S390": ("s390", 0x00000016),
    "S390X": ("s390x", 0x80000016),
}

COMPARE: dict[str, int] = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

_FLTATR_CTL_OPTIMIZE = 8


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp: argument `arg` compared by `op` with `datum_a` (for MASKED_EQ the mask, then `datum_b`)."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


@record
class Rule:
    """`action` (ACT_* with its data) for the system call `name` when every comparison holds."""

    action: int
    name: str
    comparisons: tuple[Comparison, ...] = ()


_seccomp = libc.system_call(libc.older_number("seccomp"), ctypes.c_uint, ctypes.c_uint, ctypes.POINTER(_Program))


def load(program: bytes, flags: int = 0) -> int:
    """Install the BPF program (8-byte instructions) on this thread; the listener's fd with FLAG_NEW_LISTENER, else 0.

    Needs no_new_privs or CAP_SYS_ADMIN.
    """
    described = _Program(len(program) // 8, program)
    return libc.check(_seccomp(_SET_MODE_FILTER, flags, described))


class Library:
    """libseccomp. Raises: OSError when it isn't installed."""

    def __init__(self) -> None:
        self._lib = lib = ctypes.PyDLL("libseccomp.so.2", use_errno=True)
        c_int, c_uint, context = ctypes.c_int, ctypes.c_uint, ctypes.c_void_p
        signatures = {
            "seccomp_init": ([ctypes.c_uint32], context),
            "seccomp_release": ([context], None),
            "seccomp_arch_add": ([context, ctypes.c_uint32], c_int),
            "seccomp_arch_remove": ([context, ctypes.c_uint32], c_int),
            "seccomp_arch_native": ([], ctypes.c_uint32),
            "seccomp_arch_resolve_name": ([ctypes.c_char_p], ctypes.c_uint32),
            "seccomp_attr_set": ([context, c_int, ctypes.c_uint32], c_int),
            "seccomp_syscall_resolve_name": ([ctypes.c_char_p], c_int),
            "seccomp_syscall_resolve_name_arch": ([ctypes.c_uint32, ctypes.c_char_p], c_int),
            "seccomp_rule_add_array": ([context, ctypes.c_uint32, c_int, c_uint, ctypes.POINTER(Comparison)], c_int),
            "seccomp_export_bpf": ([context, c_int], c_int),
        }
        for name, (argtypes, restype) in signatures.items():
            f = getattr(lib, name)
            f.argtypes, f.restype = argtypes, restype

    def number(self, name: str, architecture: str | None = None) -> int | None:
        """The system call's number on the architecture (libseccomp's name; None: this machine); None when not known."""
        if architecture is None:
            number = int(self._lib.seccomp_syscall_resolve_name(name.encode()))
        else:
            token = self._lib.seccomp_arch_resolve_name(architecture.encode())
            number = int(self._lib.seccomp_syscall_resolve_name_arch(token, name.encode()))
        return None if number == -1 else number

    def knows(self, architecture: str) -> bool:
        return bool(self._lib.seccomp_arch_resolve_name(architecture.encode()))

    def compile(self, default_action: int, architectures: Sequence[str], rules: Sequence[Rule]) -> bytes:
        """The BPF program; rules whose system call libseccomp doesn't know are left out (see `number`).

        Raises: OSError with libseccomp's errno.
        """
        context = self._lib.seccomp_init(default_action)
        if not context:
            raise OSError(errno.EINVAL, "seccomp_init failed")
        try:
            self._lib.seccomp_attr_set(context, _FLTATR_CTL_OPTIMIZE, 2)  # a binary tree: fewer compares a call
            self._add_architectures(context, architectures)
            for rule in rules:
                self._add(context, rule, default_action)
            return self._export(context)
        finally:
            self._lib.seccomp_release(context)

    def _add_architectures(self, context: int, architectures: Sequence[str]) -> None:
        native = self._lib.seccomp_arch_native()
        tokens = [self._lib.seccomp_arch_resolve_name(name.encode()) for name in architectures]
        for name, token in zip(architectures, tokens, strict=True):
            if token != native:
                self._check(self._lib.seccomp_arch_add(context, token), name)

    def _add(self, context: int, rule: Rule, default_action: int) -> None:
        number = self.number(rule.name)
        if number is None or rule.action == default_action:
            return  # libseccomp refuses a rule that repeats the default
        array = (Comparison * len(rule.comparisons))(*rule.comparisons)
        result = self._lib.seccomp_rule_add_array(context, rule.action, number, len(rule.comparisons), array)
        self._check(result, rule.name)

    def _export(self, context: int) -> bytes:
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            self._check(self._lib.seccomp_export_bpf(context, fd), "export")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    @staticmethod
    def _check(result: int, what: str) -> None:
        if result < 0:
            raise OSError(-result, f"libseccomp: {os.strerror(-result)}", what)
