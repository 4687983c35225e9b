"""Device rules as an eBPF program for cgroup v2, with what v1's files mean: the last rule that covers decides.

An access may be of several kinds at once (open for reading and writing). Rules are tried from the last to the first;
each takes the kinds that it allows off the list, or refuses; what no rule allows is refused.

Source: runtime-spec config-linux.md, Allowed Device list; Documentation/admin-guide/cgroup-v2.rst, Device controller.
"""

from __future__ import annotations

import os

from rorqual.linux import bpf
from rorqual.linux.bpf import Instruction
from rorqual.oci.runtime import DeviceRule
from rorqual.runc.cgroups import devices

_ALL = bpf.ACCESS_MKNOD | bpf.ACCESS_READ | bpf.ACCESS_WRITE
_ACCESS = {"m": bpf.ACCESS_MKNOD, "r": bpf.ACCESS_READ, "w": bpf.ACCESS_WRITE}
_RESULT, _CONTEXT, _TYPE, _LEFT, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5  # registers


def program(rules: tuple[DeviceRule, ...]) -> list[Instruction]:
    """Raises: InvalidArgument of an unknown type or access."""
    code = [
        bpf.load_word(_TYPE, _CONTEXT, bpf.CONTEXT_ACCESS_TYPE),
        bpf.copy(_LEFT, _TYPE),
        bpf.shift_right(_LEFT, 16),
        bpf.mask(_TYPE, 0xFFFF),
        bpf.load_word(_MAJOR, _CONTEXT, bpf.CONTEXT_MAJOR),
        bpf.load_word(_MINOR, _CONTEXT, bpf.CONTEXT_MINOR),
    ]
    for rule in reversed(rules):
        kind = devices.kind(rule)
        if kind == "a":
            # Covers every access that is left: nothing before it counts, and the verifier refuses dead code.
            return [*code, bpf.move(_RESULT, int(rule.allow)), bpf.leave()]
        code += _rule(rule, kind)
    return [*code, bpf.move(_RESULT, 0), bpf.leave()]


def _rule(rule: DeviceRule, kind: str) -> list[Instruction]:
    access = 0
    for letter in devices.access(rule):
        access |= _ACCESS[letter]
    action = _allow(access) if rule.allow else _deny(access)
    conditions = [(_TYPE, bpf.DEVICE_BLOCK if kind == "b" else bpf.DEVICE_CHARACTER)]
    for register, number in ((_MAJOR, rule.major), (_MINOR, rule.minor)):
        if number is not None and number >= 0:
            conditions.append((register, number))
    code: list[Instruction] = []
    for left, (register, number) in zip(range(len(conditions) - 1, -1, -1), conditions, strict=True):
        code.append(bpf.jump_unless_equal(register, number, left + len(action)))
    return code + action


def _allow(access: int) -> list[Instruction]:
    """Nothing left to be allowed: the access is."""
    return [
        bpf.mask(_LEFT, _ALL & ~access),
        bpf.jump_unless_equal(_LEFT, 0, 2),
        bpf.move(_RESULT, 1),
        bpf.leave(),
    ]


def _deny(access: int) -> list[Instruction]:
    return [bpf.jump_if_any(_LEFT, access, 1), bpf.jump(2), bpf.move(_RESULT, 0), bpf.leave()]


def apply(directory: str, rules: tuple[DeviceRule, ...]) -> None:
    """The group allows what the rules say, and no longer what earlier ones said. Raises: OSError, InvalidArgument."""
    code = program(rules)
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        loaded = bpf.load(bpf.BPF_PROG_TYPE_CGROUP_DEVICE, code, "devices")
        try:
            bpf.replace(group, bpf.BPF_CGROUP_DEVICE, loaded)
        finally:
            os.close(loaded)
    finally:
        os.close(group)
