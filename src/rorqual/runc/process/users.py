"""Users and groups of a container, read from its own /etc by fd: never through NSS, which would load its libraries.

Source: Docker's `user[:group]` (names or numbers); passwd(5), group(5). Cases: CVE-2019-14271, CVE-2024-40635.
"""

from __future__ import annotations

from rorqual.linux import paths
from rorqual.oci.runtime import User
from rorqual.record import record
from rorqual.runc.errors import Refusal

_LIMIT_BYTES = 4 << 20
_ID_MAX = 2**31 - 1


@record
class Identity:
    """`home` is "" when it wasn't looked up."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = ""


def resolve(root_fd: int, user: User, *, want_home: bool) -> Identity:
    """Who the process will be. Raises: Refusal in Docker's words when a name isn't known."""
    if not user.username and not want_home and not user.additional_groups:
        return Identity(user.uid, user.gid, tuple(user.additional_gids))
    passwd = _table(root_fd, "etc/passwd")
    if not user.username:
        uid, gid, groups = user.uid, user.gid, list(user.additional_gids)
        entry = _by_id(passwd, uid)
    else:
        uid, gid, found, entry = _named(root_fd, user.username, passwd)
        groups = [gid, *found, *user.additional_gids]  # the primary too, as dockerd does since CVE-2022-36109
    if user.additional_groups:
        groups += _additional(root_fd, user.additional_groups)
    home = entry[5] if entry is not None and len(entry) > 5 else ""
    return Identity(uid, gid, tuple(dict.fromkeys(groups)), home or "/")


_Entry = list[str]


def _named(root_fd: int, spec: str, passwd: list[_Entry]) -> tuple[int, int, list[int], _Entry | None]:
    name, separator, group_name = spec.partition(":")
    uid, gid = 0, 0
    entry = None
    if name:
        entry = next((e for e in passwd if e[0] == name), None)
        number = _number(name)
        if entry is None and number is not None:
            entry = _by_id(passwd, number)
            uid = number
        elif entry is None:
            raise Refusal(f"unable to find user {name}: no matching entries in passwd file")
    else:
        entry = _by_id(passwd, 0)
    if entry is not None:
        uid, gid = _field(entry, 2, uid), _field(entry, 3, 0)
    groups = _table(root_fd, "etc/group")
    if separator and group_name:
        return uid, _group(groups, group_name), [], entry
    member = entry[0] if entry is not None else name
    return uid, gid, [_field(g, 2, 0) for g in groups if len(g) > 3 and member in g[3].split(",")], entry


def _group(groups: list[_Entry], name: str) -> int:
    for entry in groups:
        if entry[0] == name:
            return _field(entry, 2, 0)
    number = _number(name)
    if number is None:
        raise Refusal(f"unable to find group {name}: no matching entries in group file")
    return number


def _additional(root_fd: int, names: tuple[str, ...]) -> list[int]:
    groups = _table(root_fd, "etc/group")
    return [_group(groups, name) for name in names]


def _number(text: str) -> int | None:
    """The ID that the text spells; None when it isn't a number. Raises: Refusal when it is out of range."""
    if not text.isascii() or not text.isdigit():
        return None
    if len(text) > 10 or int(text) > _ID_MAX:
        raise Refusal("uids and gids must be in range 0-2147483647")
    return int(text)


def _field(entry: _Entry, index: int, default: int) -> int:
    number = _number(entry[index]) if len(entry) > index else None
    return default if number is None else number


def _by_id(passwd: list[_Entry], uid: int) -> _Entry | None:
    text = str(uid)
    return next((e for e in passwd if len(e) > 2 and e[2] == text), None)


def _table(root_fd: int, path: str) -> list[_Entry]:
    """The file's lines as fields; an image without the file has no entries, one whose file is a device or too large is
    refused."""
    try:
        data = paths.read_in_root(root_fd, path, _LIMIT_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as e:
        raise Refusal(f"unable to read /{path}: {e.strerror}") from e
    lines = data.decode("utf-8", "replace").split("\n")
    return [line.strip().split(":") for line in lines if line.strip() and not line.startswith("#")]
