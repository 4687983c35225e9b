"""A Dockerfile's text to its instructions: directives, comments, continued lines, flags and here-documents.

Source: Dockerfile reference ("Format", "Parser directives", "Here-documents"); texts of errors as buildkit's
frontend/dockerfile/parser.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from rorqual.builder.dockerfile import words
from rorqual.errdefs import InvalidArgument

INSTRUCTIONS = frozenset(
    (
        "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
        "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
    )
)  # fmt: skip
_WITH_HEREDOCS = frozenset(("ADD", "COPY", "RUN"))
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*\Z")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]*)\Z")
_MAX_BYTES = 4 << 20
_MAX_LINES = 100_000


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document: its word, its lines, and whether variables in it are replaced."""

    name: str
    content: str
    expand: bool
    chomp: bool
    fd: int = 0


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `name` in capitals; `flags` unexpanded, --a=b as ("a", "b"); `text` is all that follows them.

    `line` is where it begins, from 1; `original` the instruction on one line, its name as it was written.
    """

    name: str
    text: str
    line: int
    flags: tuple[tuple[str, str], ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    original: str = ""

    def listed(self) -> tuple[str, ...] | None:
        """The exec form; None for anything that is no JSON list of strings, which Docker takes as the shell form."""
        return json_list(self.text)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The instructions in their order; `escape` is the character that continues lines."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"
    directives: dict[str, str] = field(default_factory=dict)


def json_list(text: str) -> tuple[str, ...] | None:
    """A JSON list of strings, None for anything else."""
    if not text.startswith("["):
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, list) or not all(isinstance(item, str) for item in parsed):
        return None
    return tuple(parsed)


def parse(data: bytes) -> Dockerfile:
    """Raises: InvalidArgument, naming the line."""
    if len(data) > _MAX_BYTES:
        raise InvalidArgument(f"the Dockerfile is larger than {_MAX_BYTES} bytes")
    text = data.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    lines = text.split("\n")
    if len(lines) > _MAX_LINES:
        raise InvalidArgument(f"the Dockerfile has more than {_MAX_LINES} lines")
    directives = _directives(lines)
    found = _Parser([line.removesuffix("\r") for line in lines], directives.get("escape", "\\")).run()
    if not found:
        raise InvalidArgument("the Dockerfile cannot be empty" if not text.strip() else "file with no instructions")
    return Dockerfile(tuple(found), directives.get("escape", "\\"), directives)


def _directives(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.match(line.strip())
        if match is None or match[1].lower() not in _DIRECTIVES:
            break
        name = match[1].lower()
        if name in found:
            raise _error(number, f"only one {name} parser directive can be used")
        if name == "escape" and match[2] not in ("\\", "`"):
            raise _error(number, f"invalid escape token '{match[2]}' does not match ` or \\")
        found[name] = match[2]
    return found


def _error(line: int, text: str) -> InvalidArgument:
    return InvalidArgument(f"dockerfile parse error on line {line}: {text}")


class _Parser:
    def __init__(self, lines: list[str], escape: str) -> None:
        self._lines = lines
        self._escape = escape
        self._at = 0
        token = re.escape(escape)
        self._continued = re.compile(rf"(?:(?<=[^{token}])|\A){token}[ \t]*\Z")

    def run(self) -> list[Instruction]:
        found: list[Instruction] = []
        while self._at < len(self._lines):
            line = self._lines[self._at].strip()
            if not line or line.startswith("#"):
                self._at += 1
                continue
            found.append(self._instruction())
        return found

    def _instruction(self) -> Instruction:
        number = self._at + 1
        text = self._joined()
        try:
            return self._read(text, number)
        except InvalidArgument as e:
            if str(e).startswith("dockerfile parse error"):
                raise
            raise _error(number, str(e)) from e

    def _joined(self) -> str:
        """A line with those that continue it; comments and empty lines between them are left out."""
        out = ""
        begun = False
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            stripped = line.strip()
            if begun and (not stripped or stripped.startswith("#")):
                continue
            line = line if begun else line.lstrip()
            begun = True
            if self._continued.search(line) is None:
                return out + line
            out += self._continued.sub("", line)
        return out

    def _read(self, text: str, number: int) -> Instruction:
        written, _, rest = text.strip().partition(" ") if " " in text.strip() else (text.strip(), "", "")
        if "\t" in written:
            written, _, more = written.partition("\t")
            rest = f"{more} {rest}".strip()
        name = written.upper()
        if name not in INSTRUCTIONS:
            raise InvalidArgument(f"unknown instruction: {written}{_meant(name)}")
        flags, rest = self._flags(rest.strip())
        if not rest and name not in ("CMD", "ENTRYPOINT", "SHELL"):
            raise InvalidArgument(_no_arguments(name))
        inner = name
        if name == "ONBUILD":
            inner = rest.split(None, 1)[0].upper()
        heredocs = self._heredocs(rest, number) if inner in _WITH_HEREDOCS and json_list(rest) is None else ()
        return Instruction(name, rest, number, tuple(flags), heredocs, text.strip())

    def _flags(self, text: str) -> tuple[list[tuple[str, str]], str]:
        """The words at the beginning that are --flags, and the rest."""
        found: list[tuple[str, str]] = []
        while text.startswith("--"):
            word = words.split(text, self._escape)[0]
            rest = text[len(word) :].lstrip()
            if word == "--":
                return found, rest
            name, equals, value = word[2:].partition("=")
            found.append((name, value if equals else "true"))
            text = rest
        return found, text

    def _heredocs(self, text: str, number: int) -> tuple[Heredoc, ...]:
        found: list[Heredoc] = []
        for word in words.split(text, self._escape):
            match = _HEREDOC.match(word)
            if match is None or not match[3]:
                continue
            quoted = match[3][0] in "'\"" and match[3][-1] == match[3][0] and len(match[3]) > 2
            name = match[3][1:-1] if quoted else match[3]
            if not re.fullmatch(r"[a-zA-Z_.][a-zA-Z0-9_.-]*", name):
                continue
            content = self._until(name, chomp=bool(match[2]), number=number)
            found.append(Heredoc(name, content, not quoted, bool(match[2]), int(match[1] or 0)))
        return tuple(found)

    def _until(self, name: str, *, chomp: bool, number: int) -> str:
        lines: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            line = line.lstrip("\t") if chomp else line
            if line == name:
                return "".join(f"{one}\n" for one in lines)
            lines.append(line)
        raise _error(number, f"unterminated heredoc: {name}")


def _no_arguments(name: str) -> str:
    if name == "ENV":
        return "ENV must have two arguments"
    return (
        f"{name} requires exactly one argument"
        if name in ("USER", "WORKDIR")
        else f"{name} requires at least one argument"
    )


def _meant(name: str) -> str:
    """Docker's hint for a name that is nearly one."""
    near = [known for known in sorted(INSTRUCTIONS) if _distance(name, known) <= min(2, len(known) - 1)]
    return f" (did you mean {min(near, key=lambda known: _distance(name, known))}?)" if near else ""


def _distance(one: str, other: str) -> int:
    """Levenshtein's."""
    if abs(len(one) - len(other)) > 2:
        return 3
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]
