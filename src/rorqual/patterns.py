"""Paths' patterns: Go's filepath.Match for COPY's sources, and .dockerignore's.

Source: pkg.go.dev/path/filepath#Match; Dockerfile reference and docs ("dockerignore").
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from rorqual.errdefs import InvalidArgument

_SPECIAL = re.compile(r"[*?\[\\]")


def is_pattern(path: str) -> bool:
    """Whether it means more than itself."""
    return _SPECIAL.search(path) is not None


def match(pattern: str) -> re.Pattern[str]:
    """Of one path element or of a whole path: `*` and `?` do not pass a slash. Raises: InvalidArgument."""
    return re.compile(_translated(pattern, deep=False) + r"\Z", re.DOTALL)


def _translated(pattern: str, *, deep: bool) -> str:
    """As a regular expression; with `deep`, `**` passes slashes."""
    out = ""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and deep and pattern.startswith("*", at):
            at += 1
            if pattern.startswith("/", at):
                at += 1
                out += "(?:.*/)?"
            else:
                out += ".*"
        elif char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[":
            piece, at = _class(pattern, at)
            out += piece
        elif char == "\\":
            if at == len(pattern):
                raise InvalidArgument(f"syntax error in pattern: {pattern}")
            out += re.escape(pattern[at])
            at += 1
        else:
            out += re.escape(char)
    return out


def _class(pattern: str, at: int) -> tuple[str, int]:
    """A [class] whose bracket is behind us, and where it ends."""
    out = "["
    if pattern.startswith("^", at):
        out, at = "[^", at + 1
    first = True
    while at < len(pattern) and (pattern[at] != "]" or first):
        low, at = _one(pattern, at)
        out += re.escape(low)
        if pattern.startswith("-", at):
            high, at = _one(pattern, at + 1)
            if high < low:
                raise InvalidArgument(f"syntax error in pattern: {pattern}")
            out += "-" + re.escape(high)
        first = False
    if at >= len(pattern):
        raise InvalidArgument(f"syntax error in pattern: {pattern}")
    return out + "]", at + 1


def _one(pattern: str, at: int) -> tuple[str, int]:
    if at < len(pattern) and pattern[at] == "\\":
        at += 1
    if at >= len(pattern):
        raise InvalidArgument(f"syntax error in pattern: {pattern}")
    return pattern[at], at + 1


def ignore_lines(lines: Iterable[str]) -> list[tuple[str, bool]]:
    """The patterns of a .dockerignore, cleaned, and whether each keeps what it matches. Raises: InvalidArgument."""
    found: list[tuple[str, bool]] = []
    for number, line in enumerate(lines):
        text = (line.removeprefix("\ufeff") if not number else line).strip()
        if not text or text.startswith("#"):
            continue
        keep = text.startswith("!")
        cleaned = text[1:].strip() if keep else text
        if keep and not cleaned:
            raise InvalidArgument('illegal exclusion pattern: "!"')
        cleaned = posixpath.normpath(cleaned).lstrip("/") if cleaned else cleaned
        if cleaned not in ("", "."):
            found.append((cleaned, keep))
    return found


class Ignore:
    """A .dockerignore: the last pattern that matches a path or one of its parents decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Raises: InvalidArgument for a pattern that cannot be read."""
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        self._kept: list[str] = []
        for cleaned, keep in ignore_lines(lines):
            if keep:
                self._kept.append(cleaned)
            self._rules.append((re.compile(_translated(cleaned, deep=True) + r"\Z", re.DOTALL), keep))

    @classmethod
    def parse(cls, data: bytes) -> Ignore:
        """Of the file's bytes."""
        return cls(data.decode(errors="replace").splitlines())

    @property
    def exceptions(self) -> bool:
        """Whether something is kept that another pattern leaves out."""
        return bool(self._kept)

    def leaves_out(self, path: str) -> bool:
        """Of a path relative to the context's root."""
        names = path.split("/")
        parents = ["/".join(names[:end]) for end in range(1, len(names) + 1)]
        out = False
        for rule, keep in self._rules:
            if keep == out and any(rule.match(parent) for parent in parents):
                out = not keep
        return out

    def hides(self, path: str, *, directory: bool) -> bool:
        """As leaves_out, but a directory is hidden only when nothing below it can be kept."""
        if not path or not self.leaves_out(path):
            return False
        if not directory:
            return True
        return not any(is_pattern(kept) or kept.startswith(f"{path}/") for kept in self._kept)
