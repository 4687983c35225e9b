"""eBPF programs on cgroups: an assembler of the few instructions that a device filter needs, and bpf(2).

A program answers 1 (allowed) or 0 for one access to a device node. Several may be attached to one group, and all those
of the groups above it are asked too: an access needs the consent of each.

Source: bpf(2); Documentation/bpf/standardization/instruction-set.rst; include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import os

from rorqual.linux import libc
from rorqual.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6

_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_DETACH = 9
_PROG_GET_FD_BY_ID = 13
_PROG_QUERY = 16

_F_ALLOW_MULTI = 2
_F_REPLACE = 4

_PROGRAMS_MAX = 64  # the kernel's own bound on what one group can have (BPF_CGROUP_MAX_PROGS)
_LOG_SIZE = 65536

# struct bpf_cgroup_dev_ctx: __u32 access_type (access << 16 | type), major, minor
DEVICE_BLOCK, DEVICE_CHARACTER = 1, 2
ACCESS_MKNOD, ACCESS_READ, ACCESS_WRITE = 1, 2, 4
CONTEXT_ACCESS_TYPE, CONTEXT_MAJOR, CONTEXT_MINOR = 0, 4, 8

_LDX_MEM_W = 0x61
_MOV32_IMM = 0xB4
_MOV32_REG = 0xBC
_AND32_IMM = 0x54
_RSH32_IMM = 0x74
_JNE32_IMM = 0x56
_JSET32_IMM = 0x46
_JA = 0x05
_EXIT = 0x95


@record
class Instruction:
    """One instruction; the fields of struct bpf_insn."""

    code: int
    dst: int = 0
    src: int = 0
    offset: int = 0
    immediate: int = 0

    def encode(self) -> bytes:
        head = bytes((self.code, self.src << 4 | self.dst))
        offset = self.offset.to_bytes(2, _ORDER, signed=True)
        return head + offset + (self.immediate & 0xFFFFFFFF).to_bytes(4, _ORDER)


_ORDER: Literal["little"] = "little"  # every machine that this runs on (see libc.older_number)


def load_word(dst: int, src: int, offset: int) -> Instruction:
    """dst = *(u32 *)(src + offset)"""
    return Instruction(_LDX_MEM_W, dst, src, offset)


def move(dst: int, value: int) -> Instruction:
    return Instruction(_MOV32_IMM, dst, immediate=value)


def copy(dst: int, src: int) -> Instruction:
    return Instruction(_MOV32_REG, dst, src)


def mask(dst: int, value: int) -> Instruction:
    return Instruction(_AND32_IMM, dst, immediate=value)


def shift_right(dst: int, bits: int) -> Instruction:
    return Instruction(_RSH32_IMM, dst, immediate=bits)


def jump_unless_equal(dst: int, value: int, skip: int) -> Instruction:
    return Instruction(_JNE32_IMM, dst, offset=skip, immediate=value)


def jump_if_any(dst: int, bits: int, skip: int) -> Instruction:
    """Leave out the next `skip` instructions when dst has any of the bits."""
    return Instruction(_JSET32_IMM, dst, offset=skip, immediate=bits)


def jump(skip: int) -> Instruction:
    return Instruction(_JA, offset=skip)


def leave() -> Instruction:
    """Return what register 0 holds."""
    return Instruction(_EXIT)


class _Load(ctypes.Structure):
    _fields_ = (
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_name", ctypes.c_char * 16),
    )


class _Attach(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in ("target_fd", "attach_bpf_fd", "attach_type", "attach_flags", "replace_bpf_fd")
    )


class _Query(ctypes.Structure):
    _fields_ = (
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("query_flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
        ("prog_ids", ctypes.c_uint64),
        ("prog_cnt", ctypes.c_uint32),
    )


class _ById(ctypes.Structure):
    _fields_ = (("prog_id", ctypes.c_uint32), ("next_id", ctypes.c_uint32), ("open_flags", ctypes.c_uint32))


_bpf = libc.system_call(libc.older_number("bpf"), ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)


def _call(command: int, attribute: ctypes.Structure) -> int:
    return libc.check(_bpf(command, ctypes.addressof(attribute), ctypes.sizeof(attribute)))


def load(kind: int, program: list[Instruction], name: str) -> int:
    """The verified program as an fd. Raises: OSError; when the verifier refused it, with the end of its log."""
    code = b"".join(instruction.encode() for instruction in program)
    instructions = ctypes.create_string_buffer(code, len(code))
    terms = ctypes.create_string_buffer(b"Apache-2.0")
    attribute = _Load(kind, len(program), ctypes.addressof(instructions), ctypes.addressof(terms))
    attribute.prog_name = name.encode()[:15]
    try:
        return _call(_PROG_LOAD, attribute)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.EACCES):
            raise
    log = ctypes.create_string_buffer(_LOG_SIZE)
    attribute.log_level, attribute.log_size, attribute.log_buf = 1, _LOG_SIZE, ctypes.addressof(log)
    try:
        return _call(_PROG_LOAD, attribute)
    except OSError as e:
        said = log.value.decode(errors="replace").strip()[-400:]
        raise OSError(e.errno, f"{os.strerror(e.errno or 0)}: {said}" if said else os.strerror(e.errno or 0)) from e


def attached(cgroup_fd: int, kind: int) -> list[int]:
    """The identifiers of the programs that are on this very group."""
    identifiers = (ctypes.c_uint32 * _PROGRAMS_MAX)()
    query = _Query(cgroup_fd, kind, 0, 0, ctypes.addressof(identifiers), _PROGRAMS_MAX)
    _call(_PROG_QUERY, query)
    return list(identifiers[: query.prog_cnt])


def replace(cgroup_fd: int, kind: int, program_fd: int) -> None:
    """Put the program on the group in place of those that are there.

    A single one is exchanged in one step. Of several (put there by others) each is taken off once the new one is on, so
    that at no moment less is forbidden than before or after.
    """
    old = [_by_id(identifier) for identifier in attached(cgroup_fd, kind)]
    try:
        if len(old) == 1:
            try:
                _call(_PROG_ATTACH, _Attach(cgroup_fd, program_fd, kind, _F_ALLOW_MULTI | _F_REPLACE, old[0]))
                return
            except OSError as e:
                if e.errno != errno.EINVAL:  # attached without BPF_F_ALLOW_MULTI
                    raise
        _call(_PROG_ATTACH, _Attach(cgroup_fd, program_fd, kind, _F_ALLOW_MULTI))
        for fd in old:
            _call(_PROG_DETACH, _Attach(cgroup_fd, fd, kind))
    finally:
        for fd in old:
            os.close(fd)


def _by_id(identifier: int) -> int:
    return _call(_PROG_GET_FD_BY_ID, _ById(identifier))
