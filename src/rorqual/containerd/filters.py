"""containerd's filter syntax: text in, a predicate out.

    filter   = selector ("," selector)*            every selector must hold
    selector = path [("==" | "!=" | "~=") value]   without an operator: the field is there
    path     = name ("." name)*                    a name may be quoted: labels."containerd.io/x"
    value    = bare text up to a comma, or quoted; ~= takes a regular expression

Several filters of one request are alternatives. No filter matches everything. Pure: no I/O.
Source: containerd's pkg/filters/parser.go (the grammar in its comment).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from rorqual.errdefs import InvalidArgument

T = TypeVar("T")
Lookup = Callable[[Sequence[str]], str | None]  # a field's value by its path; None: not there
Predicate = Callable[[Lookup], bool]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_/-]*")
_OPERATOR = re.compile(r"==|!=|~=")
_BARE_VALUE = re.compile(r"[^\s,\"']+")


def compile_filters(filters: Iterable[str]) -> Predicate:
    """A predicate that holds when any filter does. Raises InvalidArgument for one that cannot be parsed."""
    parsed = [_Parser(text).filter() for text in filters]
    if not parsed:
        return lambda _lookup: True
    return lambda lookup: any(all(selector(lookup) for selector in one) for one in parsed)


def select(filters: Iterable[str], items: Iterable[T], field: Callable[[T, Sequence[str]], str | None]) -> list[T]:
    """The items that match, their fields looked up by `field`. Raises InvalidArgument for a bad filter."""
    wanted = compile_filters(filters)
    return [item for item in items if wanted(partial(field, item))]


def labels_lookup(labels: Mapping[str, str], path: Sequence[str]) -> str | None:
    """The label that the rest of a path names: an unquoted a.b.c is one key too."""
    return labels.get(".".join(path))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def filter(self) -> list[Predicate]:
        """All selectors of the filter."""
        selectors: list[Predicate] = []
        if not self._text.strip():
            return selectors
        while True:
            selectors.append(self._selector())
            if self._at == len(self._text):
                return selectors
            if self._text[self._at] != ",":
                raise self._error("expected a comma or an operator")
            self._at += 1

    def _selector(self) -> Predicate:
        path = [self._name()]
        while self._text.startswith(".", self._at):
            self._at += 1
            path.append(self._name())
        operator = _OPERATOR.match(self._text, self._at)
        if operator is None:
            return lambda lookup: lookup(path) is not None
        self._at = operator.end()
        value = self._value()
        if operator.group() == "==":
            return lambda lookup: lookup(path) == value
        if operator.group() == "!=":
            return lambda lookup: lookup(path) != value
        try:
            pattern = re.compile(value)
        except re.error as e:
            raise self._error(f"bad regular expression: {e}") from e
        return lambda lookup: (found := lookup(path)) is not None and pattern.search(found) is not None

    def _name(self) -> str:
        if self._text.startswith('"', self._at):
            return self._quoted('"')
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise self._error("expected a field name")
        self._at = match.end()
        return match.group()

    def _value(self) -> str:
        for quote in "\"'/|":
            if self._text.startswith(quote, self._at) and (quote in "\"'" or self._closes(quote)):
                return self._quoted(quote)
        match = _BARE_VALUE.match(self._text, self._at)
        if match is None:
            if self._at == len(self._text) or self._text[self._at] == ",":
                return ""
            raise self._error("expected a value")
        self._at = match.end()
        return match.group()

    def _closes(self, quote: str) -> bool:
        """Whether a regular expression's delimiter has its partner before the end of the selector."""
        end = self._text.find(quote, self._at + 1)
        return end > 0 and (end + 1 == len(self._text) or self._text[end + 1] == ",")

    def _quoted(self, quote: str) -> str:
        start = self._at
        at = start + 1
        while at < len(self._text) and self._text[at] != quote:
            at += 2 if self._text[at] == "\\" else 1
        if at >= len(self._text):
            raise self._error("unterminated string")
        self._at = at + 1
        inner = self._text[start + 1 : at]
        if quote != '"':
            return inner.replace("\\" + quote, quote)
        try:
            text: str = json.loads(f'"{inner}"')
        except ValueError as e:
            raise self._error("bad escape in string") from e
        return text

    def _error(self, why: str) -> InvalidArgument:
        return InvalidArgument(f"filters: parse error: [{self._text} >|{self._at}|<]: {why}")
