"""Items into a tree. Errors are `template: name:line: message`, as text/template/parse words them."""

from __future__ import annotations

from rorqual.cli.gotemplate import lexer
from rorqual.cli.gotemplate.errors import TemplateError
from rorqual.cli.gotemplate.execute import Template
from rorqual.cli.gotemplate.lexer import Item, lex
from rorqual.cli.gotemplate.nodes import (
    Action,
    Branch,
    Call,
    Chain,
    Constant,
    Dot,
    Field,
    Identifier,
    Invoke,
    Jump,
    Nil,
    Node,
    Pipe,
    Text,
    Variable,
)
from rorqual.client.values import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}
# Nested parentheses and blocks beyond this are nobody's template (and would exhaust our stack).
MAX_DEPTH = 200


def parse(name: str, text: str, functions: Mapping[str, Callable[..., Any]] | None = None) -> Template:
    """The template of `text`; `functions` come in addition to Go's own.

    Raises: TemplateError.
    """
    from rorqual.cli.gotemplate.builtins import BUILTINS

    known = {**BUILTINS, **(functions or {})}
    parser = _Parser(name, text, known)
    root = parser.top_level()
    return Template(name, text, root, parser.defined, known)


class _Parser:
    def __init__(self, name: str, text: str, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._name = name
        self._text = text
        self._functions = functions
        self._items = lex(text)
        self._next = 0
        self._variables = ["$"]
        self._range_depth = 0
        self._depth = 0
        self.defined: dict[str, list[Node]] = {}

    # Items

    def _peek(self) -> Item:
        return self._items[min(self._next, len(self._items) - 1)]

    def _take(self) -> Item:
        item = self._peek()
        self._next += 1
        return item

    def _skip_space(self) -> None:
        while self._peek().kind == lexer.SPACE:
            self._next += 1

    def _take_non_space(self) -> Item:
        self._skip_space()
        return self._take()

    def _peek_non_space(self) -> Item:
        self._skip_space()
        return self._peek()

    def _fail(self, message: str, item: Item | None = None) -> TemplateError:
        position = (item or self._items[max(0, min(self._next, len(self._items)) - 1)]).position
        line = 1 + self._text.count("\n", 0, position)
        return TemplateError(f"template: {self._name}:{line}: {message}")

    def _unexpected(self, item: Item, context: str) -> TemplateError:
        if item.kind == lexer.ERROR:
            return self._fail(item.text, item)
        return self._fail(f"unexpected {item} in {context}", item)

    def _expect(self, kind: str, context: str) -> Item:
        item = self._take_non_space()
        if item.kind != kind:
            raise self._unexpected(item, context)
        return item

    # Statements

    def top_level(self) -> list[Node]:
        out: list[Node] = []
        while self._peek().kind != lexer.EOF:
            if self._peek().kind == lexer.LEFT:
                start = self._next
                self._take()
                word = self._take_non_space()
                if word.kind == lexer.KEYWORD and word.text == "define":
                    self._define()
                    continue
                self._next = start
            node = self._text_or_action()
            if isinstance(node, str):
                raise self._fail(f"unexpected {{{{{node}}}}}")
            out.append(node)
        return out

    def _define(self) -> None:
        item = self._take_non_space()
        if item.kind not in (lexer.STRING, lexer.RAW):
            raise self._unexpected(item, "define clause")
        name = self._unquote(item)
        self._expect(lexer.RIGHT, "define clause")
        saved, self._variables = self._variables, ["$"]
        body, end, _ = self._list()
        self._variables = saved
        if end != "end":
            raise self._fail(f"unexpected {{{{{end}}}}} in define clause")
        self._add(name, body)

    def _add(self, name: str, body: list[Node]) -> None:
        if name in self.defined and not all(isinstance(n, Text) and not n.text.strip() for n in body):
            self.defined[name] = body
        self.defined.setdefault(name, body)

    def _list(self) -> tuple[list[Node], str, Item]:
        """Nodes up to {{end}} or {{else}}: (nodes, which, its item)."""
        out: list[Node] = []
        while self._peek().kind != lexer.EOF:
            item = self._peek()
            node = self._text_or_action()
            if isinstance(node, str):
                return out, node, item
            out.append(node)
        raise self._fail("unexpected EOF", self._peek())

    def _text_or_action(self) -> Node | str:
        """A node, or "end" or "else" when that is what stands there."""
        item = self._take_non_space()
        if item.kind == lexer.TEXT:
            return Text(item.position, item.text)
        if item.kind == lexer.LEFT:
            self._enter()
            try:
                return self._action()
            finally:
                self._depth -= 1
        raise self._unexpected(item, "input")

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fail("max expression depth exceeded")

    def _action(self) -> Node | str:
        item = self._take_non_space()
        if item.kind != lexer.KEYWORD:
            self._next -= 1
            pipe = self._pipeline("command", lexer.RIGHT)
            return Action(item.position, pipe)
        word = item.text
        if word in ("if", "with", "range"):
            return self._branch(word, item)
        if word == "end":
            self._expect(lexer.RIGHT, "end")
            return "end"
        if word == "else":
            following = self._peek_non_space()
            if following.kind == lexer.KEYWORD and following.text in ("if", "with"):
                return "else"
            self._expect(lexer.RIGHT, "else")
            return "else"
        if word in ("break", "continue"):
            following = self._take_non_space()
            if following.kind != lexer.RIGHT:
                raise self._unexpected(following, f"{{{{{word}}}}}")
            if not self._range_depth:
                raise self._fail(f"{{{{{word}}}}} outside {{{{range}}}}", item)
            return Jump(item.position, word)
        if word == "template":
            return self._invoke("template clause")
        if word == "block":
            return self._block()
        raise self._unexpected(item, "command")

    def _branch(self, kind: str, item: Item) -> Branch:
        scope = len(self._variables)
        pipe = self._pipeline(kind, lexer.RIGHT)
        if kind == "range":
            self._range_depth += 1
        body, end, _ = self._list()
        if kind == "range":
            self._range_depth -= 1
        other: list[Node] | None = None
        if end == "else":
            following = self._peek()
            if kind != "range" and following.kind == lexer.KEYWORD and following.text == kind:
                # {{else if}} is {{else}}{{if}} that shares the {{end}}.
                self._take()
                self._enter()
                other = [self._branch(kind, following)]
                self._depth -= 1
            elif following.kind == lexer.KEYWORD and following.text in ("if", "with"):
                raise self._unexpected(self._take(), "else")
            else:
                other, end, at = self._list()
                if end != "end":
                    raise self._fail(f"expected end; found {{{{{end}}}}}", at)
        del self._variables[scope:]
        return Branch(item.position, kind, pipe, body, other)

    def _invoke(self, context: str) -> Invoke:
        name_item = self._take_non_space()
        if name_item.kind not in (lexer.STRING, lexer.RAW):
            raise self._unexpected(name_item, context)
        name = self._unquote(name_item)
        pipe = None
        if self._peek_non_space().kind == lexer.RIGHT:
            self._take()
        else:
            pipe = self._pipeline(context, lexer.RIGHT)
        return Invoke(name_item.position, name, pipe)

    def _block(self) -> Invoke:
        node = self._invoke("block clause")
        saved, self._variables = self._variables, ["$"]
        body, end, _ = self._list()
        self._variables = saved
        if end != "end":
            raise self._fail(f"unexpected {{{{{end}}}}} in block clause")
        self.defined.setdefault(node.name, body)
        return node

    # Expressions

    def _pipeline(self, context: str, end: str) -> Pipe:
        first = self._peek_non_space()
        variables, assign = self._declarations(context)
        commands: list[Call] = []
        while True:
            item = self._take_non_space()
            if item.kind == end:
                self._check_pipeline(commands, context, first)
                return Pipe(first.position, variables, assign, commands)
            if item.kind in (lexer.RIGHT, lexer.RPAREN, lexer.EOF, lexer.PIPE, lexer.ASSIGN, lexer.DECLARE):
                raise self._unexpected(item, context)
            if item.kind in (lexer.ERROR, lexer.OTHER, lexer.KEYWORD):
                raise self._unexpected(item, context)
            self._next -= 1
            commands.append(self._command())

    def _declarations(self, context: str) -> tuple[list[str], bool]:
        """`$a := `, `$a = `, and for range `$i, $e := `."""
        variables: list[str] = []
        while True:
            start = self._next
            item = self._peek_non_space()
            if item.kind != lexer.VARIABLE:
                self._next = start
                return [], False
            self._take()
            following = self._peek_non_space()
            if following.kind in (lexer.DECLARE, lexer.ASSIGN):
                self._take()
                variables.append(item.text)
                if following.kind == lexer.DECLARE:
                    self._variables += variables
                return variables, following.kind == lexer.ASSIGN
            if following.kind == lexer.OTHER and following.text == ",":
                self._take()
                variables.append(item.text)
                if context != "range" or len(variables) > 1:
                    raise self._fail(f"too many declarations in {context}")
                continue
            self._next = start
            return [], False

    def _check_pipeline(self, commands: list[Call], context: str, first: Item) -> None:
        if not commands:
            raise self._fail(f"missing value for {context}")
        for index, command in enumerate(commands[1:], 2):
            if isinstance(command.args[0], (Constant, Dot, Nil)):
                raise self._fail(f"non executable command in pipeline stage {index}", first)

    def _command(self) -> Call:
        args: list[Node] = []
        start = self._peek_non_space()
        while True:
            self._skip_space()
            operand = self._operand()
            if operand is not None:
                args.append(operand)
            item = self._take()
            if item.kind == lexer.SPACE:
                continue
            if item.kind in (lexer.RIGHT, lexer.RPAREN):
                self._next -= 1
            elif item.kind != lexer.PIPE:
                raise self._unexpected(item, "operand")
            break
        if not args:
            raise self._fail("empty command")
        return Call(start.position, args)

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self._peek().kind != lexer.FIELD:
            return node
        position = self._peek().position
        names = []
        while self._peek().kind == lexer.FIELD:
            names.append(self._take().text[1:])
        if isinstance(node, Field):
            return Field(position, node.names + names)
        if isinstance(node, Variable):
            return Variable(position, node.name, node.names + names)
        if isinstance(node, (Constant, Nil, Dot)):
            raise self._fail(f"unexpected . after term {quote(str(node))}")
        return Chain(position, node, names)

    def _term(self) -> Node | None:
        item = self._take_non_space()
        kind = item.kind
        if kind == lexer.IDENT:
            if item.text not in self._functions:
                raise self._fail(f"function {quote(item.text)} not defined", item)
            return Identifier(item.position, item.text)
        if kind == lexer.DOT:
            return Dot(item.position)
        if kind == lexer.NIL:
            return Nil(item.position)
        if kind == lexer.VARIABLE:
            if item.text not in self._variables:
                raise self._fail(f"undefined variable {quote(item.text)}", item)
            return Variable(item.position, item.text, [])
        if kind == lexer.FIELD:
            return Field(item.position, [item.text[1:]])
        if kind == lexer.BOOL:
            return Constant(item.position, item.text, item.text == "true")
        if kind in (lexer.NUMBER, lexer.CHAR):
            return Constant(item.position, item.text, self._number(item))
        if kind in (lexer.STRING, lexer.RAW):
            return Constant(item.position, item.text, self._unquote(item))
        if kind == lexer.LPAREN:
            self._enter()
            pipe = self._pipeline("parenthesized pipeline", lexer.RPAREN)
            self._depth -= 1
            return pipe
        self._next -= 1
        return None

    def _number(self, item: Item) -> int | float:
        text = item.text
        if item.kind == lexer.CHAR:
            value = _unescape(text[1:-1])
            if value is None or len(value) != 1:
                raise self._fail(f"malformed character constant: {text}", item)
            return ord(value)
        from rorqual.client.values import _base0

        whole = _base0(text)
        if whole is not None:
            return whole
        try:
            body = text.lower()
            value_f = float.fromhex(body.replace("_", "")) if "0x" in body else float(body)
        except ValueError:
            raise self._fail(f"bad number syntax: {quote(text)}", item) from None
        return value_f

    def _unquote(self, item: Item) -> str:
        if item.kind == lexer.RAW:
            return item.text[1:-1].replace("\r", "")
        value = _unescape(item.text[1:-1])
        if value is None:
            raise self._fail("invalid syntax", item)
        return value


def _unescape(body: str) -> str | None:
    """The text of a Go string literal's body; None when an escape is malformed."""
    if "\\" not in body:
        return body
    out: list[str] = []
    position = 0
    while position < len(body):
        c = body[position]
        position += 1
        if c != "\\":
            out.append(c)
            continue
        c = body[position : position + 1]
        position += 1
        if c in _ESCAPES:
            out.append(_ESCAPES[c])
        elif c in ("x", "u", "U"):
            width = {"x": 2, "u": 4, "U": 8}[c]
            digits = body[position : position + width]
            position += width
            try:
                out.append(chr(int(digits, 16)))
            except (ValueError, OverflowError):
                return None
        elif c and c in "01234567":
            digits = body[position - 1 : position + 2]
            position += 2
            try:
                out.append(chr(int(digits, 8)))
            except ValueError:
                return None
        else:
            return None
    return "".join(out)
