"""A tree and data into text. Errors are `template: name:line:col: executing "name" at <node>: message`, as Go's."""

from __future__ import annotations

from rorqual.cli.gotemplate import gofmt
from rorqual.cli.gotemplate.errors import TemplateError
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
from rorqual.cli.gotemplate.value import NO_VALUE, Number, Object, Struct, truth, type_name
from rorqual.client.values import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

MAX_DEPTH = 200
_VARIADIC = 0x04  # CO_VARARGS


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class FunctionError(Exception):
    """A function of the template's failed; the text is the reason. The executor says where."""


class Template:
    """A parsed template. `execute` may be called any number of times."""

    __slots__ = ("_defined", "_functions", "_name", "_root", "_text")

    def __init__(
        self,
        name: str,
        text: str,
        root: list[Node],
        defined: Mapping[str, list[Node]],
        functions: Mapping[str, Callable[..., Any]],
    ) -> None:
        self._name = name
        self._text = text
        self._root = root
        self._defined = defined
        self._functions = functions

    def execute(self, data: Any, *, missing_key_error: bool = False) -> str:
        """The text for `data`. With `missing_key_error` a map's missing key is an error, not "<no value>".

        Raises: TemplateError.
        """
        state = _State(self._name, self._text, self._defined, self._functions, missing_key_error)
        state.variables.append(("$", data))
        try:
            state.walk_list(data, self._root)
        except TemplateError as e:
            e.partial = "".join(state.out)
            raise
        return "".join(state.out)


class _State:
    def __init__(
        self,
        name: str,
        text: str,
        defined: Mapping[str, list[Node]],
        functions: Mapping[str, Callable[..., Any]],
        missing_key_error: bool,
    ) -> None:
        self.out: list[str] = []
        self.variables: list[tuple[str, Any]] = []
        self._name = name
        self._current = name
        self._text = text
        self._defined = defined
        self._functions = functions
        self._missing_key_error = missing_key_error
        self._depth = 0

    def fail(self, node: Node, message: str) -> TemplateError:
        before = self._text[: node.position]
        line = 1 + before.count("\n")
        column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogateescape"))
        return TemplateError(
            f"template: {self._name}:{line}:{column}: executing {quote(self._current)} at <{node}>: {message}"
        )

    # Statements

    def walk_list(self, dot: Any, nodes: list[Node]) -> None:
        for node in nodes:
            self._walk(dot, node)

    def _walk(self, dot: Any, node: Node) -> None:
        if isinstance(node, Text):
            self.out.append(node.text)
        elif isinstance(node, Action):
            value = self._pipeline(dot, node.pipe)
            if not node.pipe.variables:
                self._print(node, value)
        elif isinstance(node, Branch):
            if node.kind == "range":
                self._range(dot, node)
            else:
                self._if_or_with(dot, node)
        elif isinstance(node, Jump):
            raise _Break if node.kind == "break" else _Continue
        elif isinstance(node, Invoke):
            self._invoke(dot, node)

    def _print(self, node: Node, value: Any) -> None:
        if callable(value) and not isinstance(value, Object):
            raise self.fail(node, f"can't print {node} of type func")
        self.out.append(gofmt.show(value))

    def _if_or_with(self, dot: Any, node: Branch) -> None:
        scope = len(self.variables)
        value = self._pipeline(dot, node.pipe)
        if truth(value):
            self.walk_list(value if node.kind == "with" else dot, node.body)
        elif node.other is not None:
            self.walk_list(dot, node.other)
        del self.variables[scope:]

    def _range(self, dot: Any, node: Branch) -> None:
        scope = len(self.variables)
        # The pipeline's variables are set per element, not to the whole.
        bare = Pipe(node.pipe.position, [], False, node.pipe.commands)
        value = self._pipeline(dot, bare)
        names = node.pipe.variables
        count = 0
        try:
            # Go tells of the node that it evaluated last.
            for key, element in self._elements(node.pipe.commands[-1].args[-1], value):
                count += 1
                if names:
                    values = (element,) if len(names) == 1 else (key, element)
                    for name, given in zip(names, values, strict=True):
                        if node.pipe.assign:
                            self._assign(name, given)
                        else:
                            self.variables.append((name, given))
                try:
                    self.walk_list(element, node.body)
                except _Continue:
                    pass
                del self.variables[scope:]
        except _Break:
            pass
        del self.variables[scope:]
        if not count and node.other is not None:
            self.walk_list(dot, node.other)

    def _elements(self, node: Node, value: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(value, (list, tuple)):
            return iter(enumerate(value))
        if isinstance(value, dict) and not isinstance(value, Struct):
            return iter([(key, value[key]) for key in gofmt.sort_keys(value)])
        if isinstance(value, Struct):
            return iter([(key, value[key]) for key in gofmt.sort_keys(value)])
        if isinstance(value, int) and not isinstance(value, bool):
            return iter([(i, i) for i in range(value)])
        if value is None or value is NO_VALUE:
            return iter(())
        raise self.fail(node, f"range can't iterate over {gofmt.show(value)}")

    def _invoke(self, dot: Any, node: Invoke) -> None:
        body = self._defined.get(node.name)
        if body is None:
            raise self.fail(node, f"template {quote(node.name)} not defined")
        if self._depth >= MAX_DEPTH:
            raise self.fail(node, f"exceeded maximum template depth ({MAX_DEPTH})")
        value = self._pipeline(dot, node.pipe) if node.pipe is not None else None
        saved_variables, saved_name = self.variables, self._current
        self.variables, self._current = [("$", value)], node.name
        self._depth += 1
        self.walk_list(value, body)
        self._depth -= 1
        self.variables, self._current = saved_variables, saved_name

    # Expressions

    def _pipeline(self, dot: Any, pipe: Pipe) -> Any:
        value: Any = None
        final: tuple[Any, ...] = ()
        for command in pipe.commands:
            value = self._command(dot, command, final)
            final = (value,)
        for name in pipe.variables:
            if pipe.assign:
                self._assign(name, value)
            else:
                self.variables.append((name, value))
        return value

    def _assign(self, name: str, value: Any) -> None:
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return

    def _variable(self, name: str) -> Any:
        for known, value in reversed(self.variables):
            if known == name:
                return value
        return None

    def _command(self, dot: Any, command: Call, final: tuple[Any, ...]) -> Any:
        first = command.args[0]
        if isinstance(first, Field):
            return self._fields(dot, first, dot, first.names, command.args, final)
        if isinstance(first, Variable):
            value = self._variable(first.name)
            if not first.names:
                self._no_arguments(first, command.args, final)
                return value
            return self._fields(dot, first, value, first.names, command.args, final)
        if isinstance(first, Chain):
            return self._fields(dot, first, self._operand(dot, first.node), first.names, command.args, final)
        if isinstance(first, Identifier):
            return self._call_function(dot, first, command, final)
        self._no_arguments(first, command.args, final)
        if isinstance(first, Nil):
            raise self.fail(first, "nil is not a command")
        return self._operand(dot, first)

    def _no_arguments(self, node: Node, args: list[Node], final: tuple[Any, ...]) -> None:
        if len(args) > 1 or final:
            raise self.fail(node, f"can't give argument to non-function {node}")

    def _operand(self, dot: Any, node: Node) -> Any:
        if isinstance(node, Dot):
            return dot
        if isinstance(node, Nil):
            return None
        if isinstance(node, Constant):
            return node.value
        if isinstance(node, Pipe):
            return self._pipeline(dot, node)
        return self._command(dot, Call(node.position, [node]), ())

    def _fields(
        self, dot: Any, node: Node, value: Any, names: list[str], args: list[Node], final: tuple[Any, ...]
    ) -> Any:
        for name in names[:-1]:
            value = self._field(node, value, name)
        result = self._field(node, value, names[-1])
        if callable(result) and not isinstance(result, Object):
            given = [self._operand(dot, arg) for arg in args[1:]] + list(final)
            return self._call(node, names[-1], result, given)
        if len(args) > 1 or final:
            raise self.fail(node, f"{names[-1]} is not a method but has arguments")
        return result

    def _field(self, node: Node, value: Any, name: str) -> Any:
        if isinstance(value, Object):
            try:
                return value.field(name)
            except KeyError:
                raise self.fail(node, f"can't evaluate field {name} in type {value.seen_as}") from None
        if isinstance(value, dict):
            key = value.key(name) if isinstance(value, Struct) else name
            if key in value:
                return value[key]
            if isinstance(value, Struct) and name in value.omitted:
                return value.omitted[name]
            if self._missing_key_error:
                raise self.fail(node, f"map has no entry for key {quote(name)}")
            return NO_VALUE
        if value is None or value is NO_VALUE:
            if self._missing_key_error:
                raise self.fail(node, f"nil data; no entry for key {quote(name)}")
            if value is None:
                raise self.fail(node, f"nil pointer evaluating interface {{}}.{name}")
            return NO_VALUE
        # With that option the data are raw JSON, whose every value is an interface to Go.
        kind = "interface {}" if self._missing_key_error else _interface_name(value)
        raise self.fail(node, f"can't evaluate field {name} in type {kind}")

    def _call_function(self, dot: Any, node: Identifier, command: Call, final: tuple[Any, ...]) -> Any:
        name = node.name
        if name in ("and", "or"):
            return self._and_or(dot, name, command, final)
        wanted = _argument_types(self._functions[name])
        args = [
            self._argument(dot, arg, wanted[i] if i < len(wanted) else "") for i, arg in enumerate(command.args[1:])
        ]
        for value, kind in zip(final, wanted[len(args) :], strict=False):
            if not _fits(value, kind):
                raise self.fail(node, f"wrong type for value; expected {kind}; got {_interface_name(value)}")
        args += final
        if name == "call" and command.args[1:] and args[0] is not None and not callable(args[0]):
            raise self.fail(command, f"error calling call: non-function {command.args[1]} of type {type_name(args[0])}")
        return self._call(command, name, self._functions[name], args, counted_at=node)

    def _argument(self, dot: Any, node: Node, kind: str) -> Any:
        value = self._operand(dot, node)
        if _fits(value, kind):
            return value
        if isinstance(node, Constant):
            raise self.fail(node, f"expected {'integer' if kind == 'int' else kind}; found {node}")
        if value is None:
            raise self.fail(node, f"invalid value; expected {kind}")
        raise self.fail(node, f"wrong type for value; expected {kind}; got {_interface_name(value)}")

    def _and_or(self, dot: Any, name: str, command: Call, final: tuple[Any, ...]) -> Any:
        """Evaluates its arguments only as far as needed."""
        nodes = command.args[1:]
        if not nodes and not final:
            raise self.fail(command.args[0], f"wrong number of args for {name}: want at least 1 got 0")
        value: Any = None
        for arg in nodes:
            value = self._operand(dot, arg)
            if truth(value) == (name == "or"):
                return value
        return final[0] if final else value

    def _call(
        self,
        node: Node,
        name: str,
        function: Callable[..., Any],
        args: list[Any],
        counted_at: Node | None = None,
    ) -> Any:
        self._check_count(counted_at or node, name, function, len(args))
        try:
            return function(*args)
        except FunctionError as e:
            raise self.fail(node, f"error calling {name}: {e}") from e

    def _check_count(self, node: Node, name: str, function: Callable[..., Any], count: int) -> None:
        # The code object tells; the inspect module would cost 8 ms to import.
        code = function.__code__
        variadic = bool(code.co_flags & _VARIADIC)
        wanted = code.co_argcount
        if variadic and count < wanted:
            raise self.fail(node, f"wrong number of args for {name}: want at least {wanted} got {count}")
        if not variadic and count != wanted:
            raise self.fail(node, f"wrong number of args for {name}: want {wanted} got {count}")


_GO_TYPES = {"str": "string", "int": "int", "list[Any]": "[]string"}


def _argument_types(function: Callable[..., Any]) -> list[str]:
    """The Go type of each parameter that takes but one; "" for those that take any value."""
    code = function.__code__
    return [_GO_TYPES.get(function.__annotations__.get(n, ""), "") for n in code.co_varnames[: code.co_argcount]]


def _fits(value: Any, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return not kind or isinstance(value, (list, tuple))


def _interface_name(value: Any) -> str:
    name = type_name(value)
    return "interface {}" if isinstance(value, Number) else name
