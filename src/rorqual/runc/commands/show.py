"""state, list, ps: what there is."""

from __future__ import annotations

import os
import sys
import time

from rorqual.errdefs import Error, InvalidArgument
from rorqual.oci import jsontext
from rorqual.runc import container as runc
from rorqual.runc import state as states
from rorqual.runc.commands.context import Context
from rorqual.runc.commands.parser import Line, expect, flag, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIST_OPTIONS = (
    value("format", "f", help="select one of: table or json"),
    flag("quiet", "q", help="display only container IDs"),
)
PS_OPTIONS = (value("format", "f", help="select one of: table or json"),)


def state(line: Line, context: Context) -> int:
    expect(line, "state", 1, 1)
    document = _describe(runc.load(line.arguments[0], context.root))
    if not document["annotations"]:
        del document["annotations"]
    sys.stdout.write(jsontext.dumps_indented(document, "  "))
    return 0


def _describe(made: runc.Container) -> dict[str, Any]:
    record, status = made.record, made.status
    return {
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": 0 if status == states.STOPPED else record.pid,
        "status": status,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": _time(record.created_ns),
        "annotations": record.annotations,
        "owner": _owner(record.owner),
    }


def _time(ns: int) -> str:
    """RFC 3339 with nanoseconds, as Go prints it."""
    seconds, rest = divmod(ns, 10**9)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f"{rest:09d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def list_containers(line: Line, context: Context) -> int:
    expect(line, "list", 0, 0)
    found = _all(context.root)
    if line.has("quiet"):
        sys.stdout.write("".join(f"{entry['id']}\n" for entry in found))
        return 0
    chosen = line.get("format", "table")
    if chosen == "json":
        sys.stdout.write(jsontext.dumps(found or None) + "\n")
    elif chosen == "table":
        rows = [["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]]
        rows += [[str(e[k]) for k in ("id", "pid", "status", "bundle", "created", "owner")] for e in found]
        sys.stdout.write(_table(rows))
    else:
        raise InvalidArgument("invalid format option")
    return 0


def _all(root: str) -> list[dict[str, Any]]:
    found = []
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    for name in names:
        if name.startswith("."):
            continue
        try:
            found.append(_describe(runc.load(name, root)))
        except Error as e:
            sys.stderr.write(f"load container {name}: {e}\n")
    return found


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _table(rows: list[list[str]]) -> str:
    """Columns at least 12 wide, three blanks apart, as Go's tabwriter lays them out."""
    widths = [max(12, *(len(row[i]) + 3 for row in rows)) for i in range(len(rows[0]))]
    lines = ("".join(cell.ljust(w) for cell, w in zip(row[:-1], widths, strict=False)) + row[-1] for row in rows)
    return "".join(line + "\n" for line in lines)


def ps(line: Line, context: Context) -> int:
    expect(line, "ps", 1, None)
    pids = runc.load(line.arguments[0], context.root).pids()
    chosen = line.get("format", "table")
    if chosen == "json":
        sys.stdout.write(jsontext.dumps(pids) + "\n")
        return 0
    if chosen != "table":
        raise InvalidArgument("invalid format option")
    import subprocess

    arguments = line.arguments[1:] or ["-ef"]
    done = subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Error(f"exit status {done.returncode}: {done.stdout}{done.stderr}")
    header, *lines = done.stdout.splitlines()
    if "PID" not in header.split():
        raise Error("couldn't find PID field in ps output")
    column = header.split().index("PID")
    shown = [text for text in lines if text and int(text.split()[column]) in pids]
    sys.stdout.write("\n".join([header, *shown]) + "\n")
    return 0
