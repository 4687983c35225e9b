"""CRIU's requests and answers as bytes: protobuf's wire format, and the numbers of the members that are used.

Source: CRIU's images/rpc.proto (proto2); Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from rorqual import protowire
from rorqual.errdefs import DataLoss
from rorqual.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    # A message is its members in order; a nested one is a tuple of them.
    Member = tuple[int, "bool | int | str | Sequence[Member]"]
    Members = dict[int, int | memoryview]

# enum criu_req_type
DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
NAMES = {DUMP: "DUMP", RESTORE: "RESTORE", PRE_DUMP: "PRE_DUMP", FEATURE_CHECK: "FEATURE_CHECK", VERSION: "VERSION"}

# enum criu_cg_mode
CGROUP_MODES = {"": 6, "soft": 3, "full": 4, "strict": 5, "ignore": 0}

# message criu_opts
IMAGES_DIR_FD, PID, LEAVE_RUNNING, EXT_UNIX_SK, TCP_ESTABLISHED, EVASIVE_DEVICES, SHELL_JOB, FILE_LOCKS = range(1, 9)
LOG_LEVEL, LOG_FILE, PAGE_SERVER, NOTIFY_SCRIPTS, ROOT, PARENT_IMG, TRACK_MEM, AUTO_DEDUP, WORK_DIR_FD = range(9, 18)
EXT_MNT, MANAGE_CGROUPS, CG_ROOT, RST_SIBLING, INHERIT_FD, MANAGE_CGROUPS_MODE = 23, 24, 25, 26, 27, 34
EXTERNAL, EMPTY_NS, JOIN_NS, FREEZE_CGROUP, LAZY_PAGES, STATUS_FD, ORPHAN_PTS_MASTER = 37, 38, 39, 44, 48, 49, 50
CONFIG_FILE, LSM_PROFILE, LSM_MOUNT_CONTEXT, NETWORK_LOCK = 51, 53, 63, 64

NFTABLES = 2  # enum criu_network_lock_method

# message criu_features
MEM_TRACK, LAZY = 1, 2


@record
class Answer:
    """`script`: what a notification is about, with the pid it names. `version`: 31701 for 3.17.1."""

    type: int
    success: bool
    errno: int
    message: str
    script: str
    pid: int
    version: int
    features: frozenset[int]


def request(kind: int, options: Sequence[Member] = (), features: Sequence[int] = ()) -> bytes:
    """A criu_req: its type, criu_opts, and the criu_features that FEATURE_CHECK asks about."""
    members: list[Member] = [(1, kind)]
    if options:
        members.append((2, tuple(options)))
    if features:
        members.append((5, tuple((feature, True) for feature in features)))
    return encode(members)


def notified(kind: int) -> bytes:
    """The answer to a notification: done, go on."""
    return encode([(1, kind), (3, True)])


def encode(members: Sequence[Member]) -> bytes:
    """A message's bytes. Text that is no UTF-8 (paths) goes as the bytes it was."""
    out = bytearray()
    for number, value in members:
        if isinstance(value, int):  # bool too
            protowire.put_number(out, number, value)
        else:
            content = value.encode(errors="surrogateescape") if isinstance(value, str) else encode(value)
            protowire.put_bytes(out, number, content)
    return bytes(out)


def answer(data: bytes) -> Answer:
    """Raises: DataLoss."""
    try:
        top = _decode(data)
        notify, version, features = (_decode(_bytes(top, number)) for number in (5, 10, 8))
        return Answer(
            type=_number(top, 1),
            success=bool(_number(top, 2)),
            errno=_number(top, 7),
            message=_bytes(top, 9).decode(errors="replace").strip(),
            script=_bytes(notify, 1).decode(errors="replace"),
            pid=_number(notify, 2) or _number(_decode(_bytes(top, 4)), 1),
            version=_number(version, 1) * 10000 + _number(version, 2) * 100 + _number(version, 4),
            features=frozenset(number for number in features if _number(features, number)),
        )
    except (IndexError, ValueError) as e:
        raise DataLoss(f"criu's answer is damaged: {e}") from e


def _number(members: Members, number: int) -> int:
    value = members.get(number, 0)
    if not isinstance(value, int):
        raise ValueError(f"member {number} is no number")
    value &= 0xFFFF_FFFF_FFFF_FFFF
    return value - (1 << 64) if value >> 63 else value


def _bytes(members: Members, number: int) -> bytes:
    return bytes(protowire.content(members.get(number, memoryview(b""))))


def _decode(data: bytes) -> Members:
    """Each member's last value."""
    return dict(protowire.records(memoryview(data)))
