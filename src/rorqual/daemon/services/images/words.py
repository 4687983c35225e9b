"""Words of a Dockerfile instruction: split at spaces, quotes taken away, variables put in.

Source: Dockerfile reference, "Environment replacement"; moby's frontend/dockerfile/shell.
"""

from __future__ import annotations

from collections.abc import Mapping

from rorqual.errdefs import InvalidArgument

_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"


def split(text: str) -> list[str]:
    """The words of `text`, quotes and backslashes still in them: a quoted space does not split."""
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
        if char == "\\" and quote != "'" and position < len(text):
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


def expand(word: str, env: Mapping[str, str]) -> str:
    """`word` without its quotes, `$name` and `${name:-default}` replaced. Raises: InvalidArgument."""
    return _Expansion(word, env).run()


class _Expansion:
    def __init__(self, text: str, env: Mapping[str, str]) -> None:
        self._text = text
        self._env = env
        self._at = 0

    def run(self) -> str:
        out: list[str] = []
        while self._at < len(self._text):
            char = self._next()
            if char == "'":
                out.append(self._until("'"))
            elif char == '"':
                out.append(self._double_quoted())
            elif char == "\\":
                out.append(self._next() if self._at < len(self._text) else "\\")
            elif char == "$":
                out.append(self._variable())
            else:
                out.append(char)
        return "".join(out)

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
            elif char == "\\" and self._at < len(self._text) and self._text[self._at] in '"$\\':
                out.append(self._next())
            else:
                out.append(char)
        raise InvalidArgument("unexpected end of statement while looking for matching double-quote")

    def _name(self) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] in _NAME:
            self._at += 1
        return self._text[start : self._at]

    def _variable(self) -> str:
        if not self._text.startswith("{", self._at):
            name = self._name()
            return self._env.get(name, "") if name else "$"
        self._at += 1
        name = self._name()
        if not name:
            raise InvalidArgument("syntax error: bad substitution")
        rest = self._text[self._at :]
        end = rest.find("}")
        if end < 0:
            raise InvalidArgument("syntax error: missing '}'")
        operator, word = rest[: min(2, end)], rest[2:end]
        self._at += end + 1
        value = self._env.get(name, "")
        if not end:
            return value
        if operator == ":-":
            return value or expand(word, self._env)
        if operator == ":+":
            return expand(word, self._env) if value else ""
        raise InvalidArgument(f"unsupported modifier ({operator[:1]}) in substitution")
