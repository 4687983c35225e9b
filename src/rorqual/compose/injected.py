"""Secrets and configs whose text is in the file or in a variable: they are put into the container, not mounted."""

from __future__ import annotations

import io
import tarfile
import time

from rorqual.compose import mounts
from rorqual.compose.kinds import JSON
from rorqual.compose.project import Project
from rorqual.errdefs import InvalidArgument


def archives(project: Project, service: JSON) -> list[bytes]:
    """Tars relative to the container's root. Raises: InvalidArgument for a variable that is not set."""
    out: list[bytes] = []
    for kind, directory in (("secrets", "/run/secrets"), ("configs", "")):
        for entry in service.get(kind) or ():
            source = project.document[kind][entry["source"]]
            if "content" in source:
                text = source["content"]
            elif "environment" in source:
                text = project.environment.get(source["environment"])
                if text is None:
                    raise InvalidArgument(
                        f'environment variable "{source["environment"]}" required by'
                        f' {kind.removesuffix("s")} "{entry["source"]}" is not set'
                    )
            else:
                continue
            out.append(_archive(mounts.file_target(entry, directory), entry, text.encode()))
    return out


def _archive(path: str, entry: JSON, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(path.lstrip("/"))
        member.size, member.mtime = len(data), int(time.time())
        member.mode = entry.get("mode", 0o444)
        member.uid, member.gid = _number(entry, "uid"), _number(entry, "gid")
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _number(entry: JSON, key: str) -> int:
    text = entry.get(key, "0")
    if not text.isdecimal():
        raise InvalidArgument(f"{key} must be a number: {text}")
    return int(text)
