"""What changes in the directories that services say to watch. Source: Compose Develop Specification.

Directories are read again and again: that works on every file system, network shares and other machines' among them.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rorqual.compose.kinds import JSON
from rorqual.compose.project import Project
from rorqual.errdefs import InvalidArgument
from rorqual.patterns import Ignore

# What editors and version control write for themselves.
_EPHEMERAL = ("**/.git", "**/*~", "**/*.swp", "**/*.swx", "**/.#*", "**/#*#", "**/4913", "**/.DS_Store", "**/.idea")
State = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A rule of a service. `context` is its build's directory, whose .dockerignore counts."""

    service: str
    action: str
    path: str
    target: str
    ignores: tuple[tuple[str, Ignore], ...]  # by the directory that their patterns are relative to
    include: Ignore | None
    exec: JSON = field(default_factory=dict)
    initial_sync: bool = False

    def ignored(self, path: str, *, directory: bool) -> bool:
        """Of an absolute path below `path`."""
        for base, ignore in self.ignores:
            if path.startswith(base + "/") and ignore.hides(os.path.relpath(path, base), directory=directory):
                return True
        return not directory and self.include is not None and not self.include.leaves_out(self._below(path))

    def _below(self, path: str) -> str:
        return os.path.relpath(path, self.path) if path != self.path else os.path.basename(path)

    def in_container(self, path: str) -> str:
        """Where a file of the host is there."""
        return self.target if path == self.path else os.path.join(self.target, os.path.relpath(path, self.path))


@dataclass(frozen=True, slots=True)
class Change:
    """Absolute paths of what is new or other, and of what is gone, by a rule."""

    trigger: Trigger
    changed: tuple[str, ...]
    gone: tuple[str, ...]


def triggers(project: Project) -> list[Trigger]:
    """Of the project's services. Raises: InvalidArgument for a rule that cannot be followed."""
    found: list[Trigger] = []
    for name, service in project.services.items():
        for rule in (service.get("develop") or {}).get("watch") or ():
            action, path = rule.get("action", ""), rule.get("path", "")
            if not action or not path:
                raise InvalidArgument(f'service "{name}": develop.watch needs path and action')
            if action.startswith("sync") and not rule.get("target"):
                raise InvalidArgument(f'service "{name}": cannot sync {path}: target is missing')
            if action == "rebuild" and not service.get("build"):
                raise InvalidArgument(f'can\'t watch service "{name}" with action rebuild without a build context')
            if not os.path.exists(path):
                raise InvalidArgument(f'service "{name}": develop.watch: {path} does not exist')
            context = (service.get("build") or {}).get("context", "")
            ignores = [(path, Ignore((*_EPHEMERAL, *(rule.get("ignore") or ()))))]
            if os.path.isfile(os.path.join(context, ".dockerignore")):
                ignores.append((context, Ignore.parse(Path(context, ".dockerignore").read_bytes())))
            include = Ignore(_anywhere(rule["include"])) if rule.get("include") else None
            found.append(
                Trigger(
                    name,
                    action,
                    path,
                    rule.get("target", ""),
                    tuple(ignores),
                    include,
                    rule.get("exec") or {},
                    bool(rule.get("initial_sync")),
                )
            )
    return found


def _anywhere(patterns: Iterable[str]) -> Iterator[str]:
    """`*.go` means files of that name in every directory."""
    for pattern in patterns:
        yield pattern if "/" in pattern else f"**/{pattern}"


class Watcher:
    """Looks at what its rules say; the first look is when it is made."""

    def __init__(self, rules: Iterable[Trigger]) -> None:
        self._seen = [(rule, _look(rule)) for rule in rules]

    def scan(self) -> list[Change]:
        """What has changed since the last look."""
        found: list[Change] = []
        for number, (rule, before) in enumerate(self._seen):
            now = _look(rule)
            changed = tuple(sorted(path for path, state in now.items() if before.get(path) != state))
            gone = tuple(sorted(before.keys() - now.keys()))
            if changed or gone:
                found.append(Change(rule, changed, gone))
                self._seen[number] = (rule, now)
        return found

    def everything(self) -> list[Change]:
        """All files of the rules that want them synced at the start."""
        return [Change(rule, tuple(sorted(files)), ()) for rule, files in self._seen if rule.initial_sync and files]


def merged(changes: Iterable[Change]) -> list[Change]:
    """Looks one after the other as one: what is gone and came again has changed."""
    by_rule: dict[int, tuple[Trigger, dict[str, bool]]] = {}
    for change in changes:
        _, paths = by_rule.setdefault(id(change.trigger), (change.trigger, {}))
        paths |= dict.fromkeys(change.changed, True) | dict.fromkeys(change.gone, False)
    out: list[Change] = []
    for rule, paths in by_rule.values():
        changed = tuple(path for path, there in paths.items() if there)
        out.append(Change(rule, changed, tuple(path for path, there in paths.items() if not there)))
    return out


def _look(rule: Trigger) -> dict[str, State]:
    """Files and links below the rule's path."""
    found: dict[str, State] = {}
    if not os.path.isdir(rule.path):
        _note(rule, rule.path, found)
        return found
    for directory, names, files in os.walk(rule.path):
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]
        names[:] = [
            name
            for name in names
            if name not in links and not rule.ignored(os.path.join(directory, name), directory=True)
        ]
        for name in (*files, *links):
            _note(rule, os.path.join(directory, name), found)
    return found


def _note(rule: Trigger, path: str, found: dict[str, State]) -> None:
    if rule.ignored(path, directory=False):
        return
    try:
        status = os.lstat(path)
    except OSError:
        return  # gone meanwhile
    if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
        found[path] = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)


def archive(change: Change) -> bytes:
    """A tar, relative to the container's root, of what has changed; files that are gone by now are left out."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in change.changed:
            try:
                member = tar.gettarinfo(path, change.trigger.in_container(path).lstrip("/"))
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                if not member.isreg():
                    tar.addfile(member)
                    continue
                with open(path, "rb") as file:
                    data = file.read()
            except OSError:
                continue
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()
