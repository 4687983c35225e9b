"""Text of a template into items. Source: text/template's "Actions", "Text and spaces", "Arguments"."""

from __future__ import annotations

import re

TYPE_CHECKING = False

# Kinds of items
TEXT, LEFT, RIGHT, EOF, ERROR = "text", "left", "right", "EOF", "error"
BOOL, CHAR, NUMBER, STRING, RAW = "bool", "char", "number", "string", "raw"
IDENT, FIELD, VARIABLE, DOT, NIL, KEYWORD = "ident", "field", "variable", "dot", "nil", "keyword"
SPACE, PIPE, ASSIGN, DECLARE, LPAREN, RPAREN, OTHER = "space", "pipe", "assign", "declare", "(", ")", "char-other"

KEYWORDS = frozenset(("if", "else", "end", "range", "with", "define", "block", "template", "break", "continue"))
_SPACES = " \t\r\n"
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]+(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]+)?|0[bB][01_]+|0[oO][0-7_]+"
    r"|[0-9_]*\.?[0-9_]*(?:[eE][+-]?[0-9_]+)?)"
)
_WORD = re.compile(r"\w+")


class Item:
    """A token: its kind, where it begins (in characters of the whole text) and its text."""

    __slots__ = ("kind", "position", "text")

    def __init__(self, kind: str, position: int, text: str) -> None:
        self.kind = kind
        self.position = position
        self.text = text

    def __str__(self) -> str:
        from rorqual.client.values import quote

        if self.kind == EOF:
            return "EOF"
        if self.kind == ERROR:
            return self.text
        if self.kind == KEYWORD:
            return f"<{self.text}>"
        if len(self.text) > 10:
            return f"{quote(self.text[:10])}..."
        return quote(self.text)


def lex(text: str) -> list[Item]:
    """All items; an ERROR item ends the list early, otherwise EOF does."""
    out: list[Item] = []
    position, size = 0, len(text)
    trim = False
    while True:
        left = text.find("{{", position)
        stop = size if left < 0 else left
        piece_start, piece = position, text[position:stop]
        if trim:
            stripped = piece.lstrip(_SPACES)
            piece_start += len(piece) - len(stripped)
            piece = stripped
        trim = False
        if left >= 0 and text.startswith("{{-", left) and left + 3 < size and text[left + 3] in _SPACES:
            piece = piece.rstrip(_SPACES)
        if piece:
            out.append(Item(TEXT, piece_start, piece))
        if left < 0:
            out.append(Item(EOF, size, ""))
            return out
        inside = left + 2
        if text.startswith("-", inside) and inside + 1 < size and text[inside + 1] in _SPACES:
            inside += 2
        if text.startswith("/*", inside):
            end = text.find("*/", inside)
            if end < 0:
                out.append(Item(ERROR, left, "unclosed comment"))
                return out
            end += 2
            if text.startswith("}}", end):
                position = end + 2
            elif end < size and text[end] in _SPACES and text.startswith("-}}", end + 1):
                position, trim = end + 4, True
            else:
                out.append(Item(ERROR, left, "comment ends before closing delimiter"))
                return out
            continue
        out.append(Item(LEFT, left, "{{"))
        position, trim = _action(text, inside, out)
        if position < 0:
            return out


def _action(text: str, position: int, out: list[Item]) -> tuple[int, bool]:
    """Items of one action; (where text goes on, whether it is trimmed). Position -1: an error was appended."""
    depth = 0
    size = len(text)

    def fail(message: str) -> tuple[int, bool]:
        out.append(Item(ERROR, position, message))
        return -1, False

    while True:
        if text.startswith("}}", position):
            if depth:
                return fail("unclosed left paren")
            out.append(Item(RIGHT, position, "}}"))
            return position + 2, False
        if position >= size:
            return fail("unclosed action")
        c = text[position]
        if c in _SPACES:
            start = position
            while position < size and text[position] in _SPACES:
                position += 1
            if text.startswith("-}}", position):
                if depth:
                    return fail("unclosed left paren")
                out.append(Item(RIGHT, position, "}}"))
                return position + 3, True
            out.append(Item(SPACE, start, text[start:position]))
            continue
        if c in "=|,()":
            if c == "(":
                depth += 1
            elif c == ")":
                depth -= 1
                if depth < 0:
                    return fail("unexpected right paren")
            kind = {"=": ASSIGN, "|": PIPE, ",": OTHER, "(": LPAREN, ")": RPAREN}[c]
            out.append(Item(kind, position, c))
            position += 1
            continue
        if c == ":":
            if not text.startswith(":=", position):
                return fail("expected :=")
            out.append(Item(DECLARE, position, ":="))
            position += 2
            continue
        if c == '"' or c == "'":
            end = _quoted_end(text, position)
            if end < 0:
                return fail("unterminated quoted string" if c == '"' else "unterminated character constant")
            out.append(Item(STRING if c == '"' else CHAR, position, text[position:end]))
            position = end
            continue
        if c == "`":
            end = text.find("`", position + 1)
            if end < 0:
                return fail("unterminated raw quoted string")
            out.append(Item(RAW, position, text[position : end + 1]))
            position = end + 1
            continue
        if c == "." and not (position + 1 < size and text[position + 1].isascii() and text[position + 1].isdigit()):
            match = _WORD.match(text, position + 1)
            end = match.end() if match else position + 1
            kind = FIELD if match else DOT
        elif c == "$":
            match = _WORD.match(text, position + 1)
            end = match.end() if match else position + 1
            kind = VARIABLE
        elif c in "+-." or (c.isascii() and c.isdigit()):
            match = _NUMBER.match(text, position)
            end = match.end() if match else position + 1
            if end < size and text[end] == "i":
                end += 1
            if (end < size and (text[end].isalnum() or text[end] == "_")) or end == position + (c in "+-."):
                return fail(f"bad number syntax: {_q(text[position : end + 1])}")
            out.append(Item(NUMBER, position, text[position:end]))
            position = end
            continue
        elif c == "_" or c.isalpha():
            match = _WORD.match(text, position)
            assert match is not None
            end = match.end()
            word = match[0]
            if word in KEYWORDS:
                kind = KEYWORD
            elif word in ("true", "false"):
                kind = BOOL
            else:
                kind = NIL if word == "nil" else IDENT
        elif c.isascii() and c.isprintable():
            out.append(Item(OTHER, position, c))
            position += 1
            continue
        else:
            return fail(f"unrecognized character in action: U+{ord(c):04X} {_q(c, single=True)}")
        if not _ends_word(text, end):
            position = end
            bad = text[end]
            return fail(f"bad character U+{ord(bad):04X} {_q(bad, single=True)}")
        out.append(Item(kind, position, text[position:end]))
        position = end


def _ends_word(text: str, end: int) -> bool:
    return end >= len(text) or text[end] in " \t\r\n.,|:()=" or text.startswith("}}", end)


def _quoted_end(text: str, start: int) -> int:
    mark = text[start]
    position = start + 1
    while position < len(text):
        c = text[position]
        if c == "\\":
            position += 2
            continue
        if c == "\n":
            return -1
        if c == mark:
            return position + 1
        position += 1
    return -1


def _q(text: str, *, single: bool = False) -> str:
    from rorqual.client.values import quote

    return quote(text, single=single)
