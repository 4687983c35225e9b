"""Words of a Dockerfile instruction: split at spaces, quotes taken away, variables put in.

Source: Dockerfile reference, "Environment replacement"; moby's frontend/dockerfile/shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rorqual.errdefs import InvalidArgument

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")
_SPECIAL = frozenset("@*#?-$!0")  # one-character names that a shell knows and a Dockerfile leaves empty


def split(text: str, escape: str = "\\") -> list[str]:
    """The words of `text`, quotes and escapes still in them: a quoted space does not split."""
    words: list[str] = []
    word = ""
    quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if not quote and char.isspace():
            if word:
                words.append(word)
            word = ""
            continue
        if char == escape and quote != "'" and position < len(text):
            word += char + text[position]
            position += 1
            continue
        if quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        word += char
    if word:
        words.append(word)
    return words


def expand(word: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """`word` without its quotes, its variables replaced: $name, ${name}, and with the modifiers :- :+ :? - + ? # ## %
    %% / //. Raises: InvalidArgument with Docker's texts.
    """
    return _Expansion(word, env, escape).run()


def expand_heredoc(text: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """The lines of a here-document: variables are replaced, quotes mean themselves."""
    return _Expansion(text, env, escape, raw_quotes=True).run()


class _Expansion:
    def __init__(
        self, text: str, env: Mapping[str, str], escape: str, *, raw_quotes: bool = False, ends: str = ""
    ) -> None:
        self._text = text
        self._env = env
        self._escape = escape
        self._raw_quotes = raw_quotes
        self._ends = ends
        self._at = 0

    def run(self) -> str:
        """The result."""
        out: list[str] = []
        while self._at < len(self._text) and self._text[self._at] not in self._ends:
            char = self._next()
            if char == "'" and not self._raw_quotes:
                out.append(self._until("'"))
            elif char == '"' and not self._raw_quotes:
                out.append(self._double_quoted())
            elif char == self._escape:
                out.append(self._escaped())
            elif char == "$":
                out.append(self._variable())
            else:
                out.append(char)
        return "".join(out)

    def _escaped(self) -> str:
        if self._at == len(self._text):
            return self._escape
        char = self._next()
        if self._raw_quotes and char not in ("$", self._escape):
            return self._escape + char
        return char

    def _next(self) -> str:
        char = self._text[self._at]
        self._at += 1
        return char

    def _until(self, end: str) -> str:
        stop = self._text.find(end, self._at)
        if stop < 0:
            raise InvalidArgument("unexpected end of statement while looking for matching single-quote")
        found = self._text[self._at : stop]
        self._at = stop + 1
        return found

    def _double_quoted(self) -> str:
        out: list[str] = []
        while self._at < len(self._text):
            char = self._next()
            if char == '"':
                return "".join(out)
            if char == "$":
                out.append(self._variable())
            elif (
                char == self._escape and self._at < len(self._text) and self._text[self._at] in ('"', "$", self._escape)
            ):
                out.append(self._next())
            else:
                out.append(char)
        raise InvalidArgument("unexpected end of statement while looking for matching double-quote")

    def _name(self) -> str:
        if self._at < len(self._text) and self._text[self._at] in _SPECIAL:
            return self._next()
        start = self._at
        if self._at < len(self._text) and self._text[self._at].isdigit():
            while self._at < len(self._text) and self._text[self._at].isdigit():
                self._at += 1
            return self._text[start : self._at]
        while self._at < len(self._text) and self._text[self._at] in _NAME:
            self._at += 1
        return self._text[start : self._at]

    def _variable(self) -> str:
        if self._text.startswith("{", self._at):
            self._at += 1
            return self._braced()
        name = self._name()
        return self._env.get(name, "") if name else "$"

    def _braced(self) -> str:
        if self._text.startswith("}", self._at):
            raise InvalidArgument("syntax error: bad substitution")
        name = self._name()
        if not name:
            raise InvalidArgument("syntax error: bad substitution")
        if self._at == len(self._text):
            raise InvalidArgument("syntax error: missing '}'")
        operator = self._next()
        value = self._env.get(name)
        if operator == "}":
            return value or ""
        if operator == ":":
            operator = self._next() if self._at < len(self._text) else ""
            if operator not in ("-", "+", "?"):
                raise InvalidArgument(f"unsupported modifier ({operator}) in substitution")
            return self._default(name, operator, value or None)
        if operator in ("-", "+", "?"):
            return self._default(name, operator, value)
        if operator in ("#", "%"):
            longest = self._text.startswith(operator, self._at)
            self._at += longest
            return _trimmed(value or "", self._pattern("}"), operator, longest=longest)
        if operator == "/":
            everywhere = self._text.startswith("/", self._at)
            self._at += everywhere
            pattern = self._pattern("/}")
            replacement = ""
            if self._text[self._at - 1] == "/":
                replacement = self._word()
            return _replaced(value or "", pattern, replacement, everywhere=everywhere)
        raise InvalidArgument(f"unsupported modifier ({operator}) in substitution")

    def _default(self, name: str, operator: str, value: str | None) -> str:
        word = self._word()
        if operator == "-":
            return word if value is None else value
        if operator == "+":
            return "" if value is None else word
        if value is None:
            raise InvalidArgument(f"{name}: {word or 'is not allowed to be unset'}")
        return value

    def _word(self) -> str:
        """Up to the closing brace, variables in it replaced."""
        inner = _Expansion(self._text, self._env, self._escape, raw_quotes=self._raw_quotes, ends="}")
        inner._at = self._at
        found = inner.run()
        self._at = inner._at
        if self._at == len(self._text):
            raise InvalidArgument("syntax error: missing '}'")
        self._at += 1
        return found

    def _pattern(self, ends: str) -> str:
        """A glob, up to one of `ends`, which is taken too."""
        inner = _Expansion(self._text, self._env, "", raw_quotes=True, ends=ends)
        inner._at = self._at
        found = ""
        while inner._at < len(self._text) and self._text[inner._at] not in ends:
            char = inner._next()
            if char == "\\" and inner._at < len(self._text):
                found += char + inner._next()
            else:
                found += inner._variable() if char == "$" else char
        self._at = inner._at
        if self._at == len(self._text):
            raise InvalidArgument("syntax error: missing '}'")
        self._at += 1
        return found


def _regex(pattern: str, *, greedy: bool) -> str:
    """A shell's glob (* and ?) as a regular expression."""
    many = ".*" if greedy else ".*?"
    out = ""
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "\\" and position < len(pattern):
            out += re.escape(pattern[position])
            position += 1
        elif char == "*":
            out += many
        else:
            out += "." if char == "?" else re.escape(char)
    return out


def _trimmed(value: str, pattern: str, operator: str, *, longest: bool) -> str:
    if operator == "#":
        match = re.match(_regex(pattern, greedy=longest), value, re.DOTALL)
        return value[match.end() :] if match else value
    # From the end: the shortest suffix begins as late as may be.
    whole = re.compile(_regex(pattern, greedy=True) + r"\Z", re.DOTALL)
    starts = range(len(value) + 1) if longest else range(len(value), -1, -1)
    return next((value[:start] for start in starts if whole.match(value, start)), value)


def _replaced(value: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
    return re.sub(
        _regex(pattern, greedy=True), lambda _: replacement, value, count=0 if everywhere else 1, flags=re.DOTALL
    )
