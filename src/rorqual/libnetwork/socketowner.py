"""Which program has a port: for the text of a conflict. Looks through /proc, so only where something failed already.

Source: proc_net(5) for the tables' columns, proc_pid_fd(5).
"""

import os
from collections.abc import Iterator

_TABLES = {"tcp": ("tcp", "tcp6"), "udp": ("udp", "udp6")}


def program_on(proto: str, port: int) -> str:
    """`name, pid n` of a program that is bound to that port of this network namespace, "" where none is seen."""
    inodes = set(_inodes(proto, port))
    if not inodes:
        return ""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in inodes:
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                        return f"{file.read().strip()}, pid {pid}"
        except OSError:
            continue  # it ended, or belongs to somebody whose files we may not see
    return ""


def _inodes(proto: str, port: int) -> Iterator[str]:
    """The links of the descriptors that are bound to the port."""
    for table in _TABLES.get(proto, ()):
        try:
            with open(f"/proc/thread-self/net/{table}", encoding="ascii") as file:
                next(file)
                for line in file:
                    columns = line.split()
                    # An established connection's remote port is not zero; what holds the port has none.
                    if columns[1].endswith(f":{port:04X}") and columns[2].endswith(":0000"):
                        yield f"socket:[{columns[9]}]"
        except (OSError, StopIteration):
            continue
