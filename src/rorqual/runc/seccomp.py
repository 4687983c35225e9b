"""From a seccomp profile to the BPF program that init loads: compiled once, cached by the profile's hash.

In memory (a warm process preloads the default profile), and on disk in `<root>/.seccomp/`. libseccomp does the work but
for two things put in front of its program: system calls that are newer than the library (their numbers are the same on
every architecture), and ENOSYS instead of the default errno for calls newer than the whole profile, so that C libraries
fall back instead of failing.

Source: runtime-spec config-linux.md, Seccomp; seccomp(2).
"""

import os
import struct
from _blake2 import blake2b  # hashlib would load OpenSSL for it
from contextlib import suppress

from rorqual.errdefs import InvalidArgument, Unavailable
from rorqual.linux import seccomp as kernel
from rorqual.linux.seccomp import Comparison, Library, Rule
from rorqual.oci import jsontext
from rorqual.oci.runtime import Seccomp, SeccompArg, SeccompSyscall
from rorqual.runc.errors import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
else:
    import _socket as socket

_VERSION = b"1"  # of what this module makes out of a profile: part of the hash

_ACTIONS: dict[str, int] = {
    "SCMP_ACT_KILL": kernel.ACT_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": kernel.ACT_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": kernel.ACT_KILL_PROCESS,
    "SCMP_ACT_TRAP": kernel.ACT_TRAP,
    "SCMP_ACT_ERRNO": kernel.ACT_ERRNO,
    "SCMP_ACT_TRACE": kernel.ACT_TRACE,
    "SCMP_ACT_ALLOW": kernel.ACT_ALLOW,
    "SCMP_ACT_LOG": kernel.ACT_LOG,
    "SCMP_ACT_NOTIFY": kernel.ACT_NOTIFY,
}
ACTIONS = tuple(_ACTIONS)

_EPERM, _ENOSYS = 1, 38

# Newer than the oldest libseccomp that distributions ship (2.5.4).
_NEWER: dict[str, int] = {
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}

_X32_BIT = 0x40000000

_memory: dict[bytes, bytes] = {}
_library: Library | None = None


def preload(seccomp: Seccomp) -> None:
    """Compile now, so that this process and those forked from it needn't."""
    program(seccomp)


def program(seccomp: Seccomp, cache_dir: str | None = None) -> bytes:
    """The BPF program of the profile. Raises: InvalidArgument naming what is wrong with it."""
    key = blake2b(_VERSION + seccomp.to_json(), digest_size=20).digest()
    found = _memory.get(key)
    if found is None:
        found = _read(cache_dir, key) or _compile(seccomp)
        _memory[key] = found
        _write(cache_dir, key, found)
    return found


def flags(seccomp: Seccomp) -> int:
    """The flags to load it with. Raises: InvalidArgument of an unknown one."""
    chosen = 0
    for name in seccomp.flags:
        flag = kernel.FLAGS.get(name)
        if flag is None:
            raise InvalidArgument(f"invalid config: linux.seccomp.flags: {name!r} is not supported")
        if name != "SECCOMP_FILTER_FLAG_TSYNC":  # one thread loads it, and a listener excludes the flag
            chosen |= flag
    if uses_notify(seccomp):
        chosen |= kernel.FLAG_NEW_LISTENER
    return chosen


def uses_notify(seccomp: Seccomp) -> bool:
    """Whether an agent must be there to answer for the container."""
    return any(rule.action == "SCMP_ACT_NOTIFY" for rule in seccomp.syscalls)


# `sendmsg` carries the listener out of the container's process, before anybody could answer for it; `write` as in runc.
_NEVER_NOTIFIED = ("sendmsg", "write")


def _check_notify(syscall: SeccompSyscall, path: str) -> None:
    for name in _NEVER_NOTIFIED:
        if syscall.action == "SCMP_ACT_NOTIFY" and name in syscall.names:
            raise InvalidArgument(f"invalid config: {path}: SCMP_ACT_NOTIFY cannot be used for the {name} syscall")


def send_listener(profile: Seccomp, fd: int, pid: int, state: bytes) -> None:
    """Hand the listener to the agent at listenerPath with the container's state; `fd` is closed.

    Source: runtime-spec config-linux.md, "The Container Process State". Raises: Unavailable.
    """
    document = {
        "ociVersion": "1.2.0",
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": profile.listener_metadata,
        "state": jsontext.loads(state),
    }
    try:
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            agent.connect(profile.listener_path)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))
            agent.sendmsg([jsontext.dumps(document).encode()], [rights])
        finally:
            agent.close()
    except OSError as e:
        text = "failed to connect with seccomp agent specified in the seccomp profile"
        raise Unavailable(f"{text}: {profile.listener_path}: {reason(e)}") from e
    finally:
        os.close(fd)


def _action(name: str, errno_ret: int | None, path: str) -> int:
    action = _ACTIONS.get(name)
    if action is None:
        raise InvalidArgument(f"invalid config: {path}: {name!r} is not a seccomp action")
    if action in (kernel.ACT_ERRNO, kernel.ACT_TRACE):
        return action | (_EPERM if errno_ret is None else errno_ret & 0xFFFF)
    return action


def _compile(seccomp: Seccomp) -> bytes:
    global _library
    if _library is None:
        _library = Library()
    default = _action(seccomp.default_action, seccomp.default_errno_ret, "linux.seccomp.defaultAction")
    if default == kernel.ACT_NOTIFY:
        raise InvalidArgument("invalid config: linux.seccomp.defaultAction cannot be SCMP_ACT_NOTIFY")
    architectures = _architectures(seccomp)
    rules = [rule for index, s in enumerate(seccomp.syscalls) for rule in _rules(s, index)]
    try:
        compiled = _library.compile(default, architectures, rules)
    except OSError as e:
        raise InvalidArgument(f"invalid config: linux.seccomp: {e.filename}: {e.strerror}") from e
    return _front(architectures, rules, default) + compiled


def _architectures(seccomp: Seccomp) -> list[str]:
    """libseccomp's names; those this libseccomp doesn't know can't be this machine's either."""
    assert _library is not None
    names = []
    for architecture in seccomp.architectures:
        known = kernel.ARCHITECTURES.get(architecture.removeprefix("SCMP_ARCH_"))
        if known is None:
            raise InvalidArgument(f"invalid config: linux.seccomp.architectures: {architecture!r} is not known")
        if _library.knows(known[0]):
            names.append(known[0])
    return names


def _rules(syscall: SeccompSyscall, index: int) -> list[Rule]:
    path = f"linux.seccomp.syscalls[{index}]"
    action = _action(syscall.action, syscall.errno_ret, f"{path}.action")
    _check_notify(syscall, path)
    if not syscall.names:
        raise InvalidArgument(f"invalid config: {path}.names must not be empty")
    conditions = _conditions(syscall.args, path)
    return [Rule(action, name, group) for name in syscall.names for group in conditions]


def _conditions(args: tuple[SeccompArg, ...], path: str) -> list[tuple[Comparison, ...]]:
    """All comparisons must hold, but several of one argument are alternatives (libseccomp can't join those)."""
    comparisons = [_comparison(arg, f"{path}.args") for arg in args]
    if len({arg.index for arg in args}) < len(args):
        return [(comparison,) for comparison in comparisons]
    return [tuple(comparisons)]


def _comparison(arg: SeccompArg, path: str) -> Comparison:
    op = kernel.COMPARE.get(arg.op)
    if op is None:
        raise InvalidArgument(f"invalid config: {path}: {arg.op!r} is not a comparison")
    return Comparison(arg.index, op, arg.value, arg.value_two)


# --- the part in front: classic BPF -------------------------------------------------------------------------------

_LOAD, _JEQ, _JGT, _JGE, _RET = 0x20, 0x15, 0x25, 0x35, 0x06
_NR_OFFSET, _ARCH_OFFSET = 0, 4


def _instruction(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)


def _front(architectures: list[str], rules: list[Rule], default: int) -> bytes:
    """Calls the library doesn't know, by number; then ENOSYS for what is newer than the newest call in the profile.

    Only where the default is an errno: a profile that kills, traps or logs by default means that for unknown calls too.
    """
    assert _library is not None
    newer: dict[int, int] = {}
    for rule in rules:
        number = _NEWER.get(rule.name)
        if number is not None and not rule.comparisons and _library.number(rule.name) is None:
            newer.setdefault(number, rule.action)
    native: list[str | None] = [name for name in architectures if name != "x32"] or [None]
    newest = max([_newest(rules, name) for name in native] + [*newer, 0])
    body = b"".join(_instruction(_JEQ, n, 0, 1) + _instruction(_RET, a) for n, a in sorted(newer.items()))
    if default & 0xFFFF0000 == kernel.ACT_ERRNO and newest:
        body += _instruction(_JGT, newest, 0, 1) + _instruction(_RET, kernel.ACT_ERRNO | _ENOSYS)
    if not body:
        return b""
    return _guarded(body, _tokens(architectures))


def _newest(rules: list[Rule], architecture: str | None) -> int:
    assert _library is not None
    numbers = {name: _library.number(name, architecture) for name in {rule.name for rule in rules}}
    return max((n for n in numbers.values() if n is not None and n < _X32_BIT), default=0)


def _tokens(architectures: list[str]) -> list[int]:
    """AUDIT_ARCH_* of the profile's architectures, or of this machine when it names none."""
    by_name = dict(kernel.ARCHITECTURES.values())
    machine = {"arm64": "aarch64", "armv7l": "arm", "i686": "x86"}.get(os.uname().machine, os.uname().machine)
    return sorted({by_name[name] for name in architectures or [machine] if name in by_name})


def _guarded(body: bytes, tokens: list[int]) -> bytes:
    """Run `body` only for these architectures and only for plain numbers (x32 has a bit set); else fall through.

    The jump over the body may be longer than a conditional jump's 255, so it is an unconditional one.
    """
    length = len(body) // 8
    checks = b"".join(
        _instruction(_JEQ, token, len(tokens) - index, 0) for index, token in enumerate(tokens)
    )  # any match: on to the load of the number; none: the jump
    skip = _instruction(0x05, length + 3)  # JA
    number = _instruction(_LOAD, _NR_OFFSET) + _instruction(_JGE, _X32_BIT, 0, 1) + _instruction(0x05, length)
    return _instruction(_LOAD, _ARCH_OFFSET) + checks + skip + number + body


# --- the cache on disk --------------------------------------------------------------------------------------------


def _read(cache_dir: str | None, key: bytes) -> bytes | None:
    if cache_dir is None:
        return None
    try:
        with open(f"{cache_dir}/{key.hex()}.bpf", "rb") as f:
            data = f.read()
    except OSError:
        return None
    digest, body = data[:20], data[20:]
    return body if digest == blake2b(body, digest_size=20).digest() and len(body) % 8 == 0 else None


def _write(cache_dir: str | None, key: bytes, body: bytes) -> None:
    """Losing the cache costs a compilation only, so a full disk doesn't matter here."""
    if cache_dir is None:
        return
    with suppress(OSError):
        os.makedirs(cache_dir, 0o700, exist_ok=True)
        name = f"{cache_dir}/{key.hex()}.bpf"
        with open(f"{name}.{os.getpid()}", "wb") as f:
            f.write(blake2b(body, digest_size=20).digest() + body)
        os.rename(f"{name}.{os.getpid()}", name)
