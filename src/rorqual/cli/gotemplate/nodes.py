"""The syntax tree. `str()` of a node is how Go writes it in error texts."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Node:
    """`position`: where it stands in the text."""

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position


class Text(Node):
    __slots__ = ("text",)

    def __init__(self, position: int, text: str) -> None:
        super().__init__(position)
        self.text = text


class Dot(Node):
    __slots__ = ()

    def __str__(self) -> str:
        return "."


class Nil(Node):
    __slots__ = ()

    def __str__(self) -> str:
        return "nil"


class Constant(Node):
    """A boolean, number, character or string, with its source text."""

    __slots__ = ("source", "value")

    def __init__(self, position: int, source: str, value: Any) -> None:
        super().__init__(position)
        self.source = source
        self.value = value

    def __str__(self) -> str:
        return self.source


class Field(Node):
    """.A.B"""

    __slots__ = ("names",)

    def __init__(self, position: int, names: list[str]) -> None:
        super().__init__(position)
        self.names = names

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


class Variable(Node):
    """$x.A.B"""

    __slots__ = ("name", "names")

    def __init__(self, position: int, name: str, names: list[str]) -> None:
        super().__init__(position)
        self.name = name
        self.names = names

    def __str__(self) -> str:
        return self.name + "".join(f".{name}" for name in self.names)


class Chain(Node):
    """(pipeline).A.B"""

    __slots__ = ("names", "node")

    def __init__(self, position: int, node: Node, names: list[str]) -> None:
        super().__init__(position)
        self.node = node
        self.names = names

    def __str__(self) -> str:
        inner = f"({self.node})" if isinstance(self.node, Pipe) else str(self.node)
        return inner + "".join(f".{name}" for name in self.names)


class Identifier(Node):
    """A function's name."""

    __slots__ = ("name",)

    def __init__(self, position: int, name: str) -> None:
        super().__init__(position)
        self.name = name

    def __str__(self) -> str:
        return self.name


class Call(Node):
    """A command of a pipeline: an operand, or a function or method and its arguments."""

    __slots__ = ("args",)

    def __init__(self, position: int, args: list[Node]) -> None:
        super().__init__(position)
        self.args = args

    def __str__(self) -> str:
        return " ".join(f"({a})" if isinstance(a, Pipe) else str(a) for a in self.args)


class Pipe(Node):
    """[$a[, $b] :=|=] command | command"""

    __slots__ = ("assign", "commands", "variables")

    def __init__(self, position: int, variables: list[str], assign: bool, commands: list[Call]) -> None:
        super().__init__(position)
        self.variables = variables
        self.assign = assign
        self.commands = commands

    def __str__(self) -> str:
        declared = ", ".join(self.variables)
        if declared:
            declared += " = " if self.assign else " := "
        return declared + " | ".join(map(str, self.commands))


class Action(Node):
    __slots__ = ("pipe",)

    def __init__(self, position: int, pipe: Pipe) -> None:
        super().__init__(position)
        self.pipe = pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


class Branch(Node):
    """if, range or with."""

    __slots__ = ("body", "kind", "other", "pipe")

    def __init__(self, position: int, kind: str, pipe: Pipe, body: list[Node], other: list[Node] | None) -> None:
        super().__init__(position)
        self.kind = kind
        self.pipe = pipe
        self.body = body
        self.other = other


class Jump(Node):
    """break or continue."""

    __slots__ = ("kind",)

    def __init__(self, position: int, kind: str) -> None:
        super().__init__(position)
        self.kind = kind

    def __str__(self) -> str:
        return f"{{{{{self.kind}}}}}"


class Invoke(Node):
    """{{template "name" pipeline}}"""

    __slots__ = ("name", "pipe")

    def __init__(self, position: int, name: str, pipe: Pipe | None) -> None:
        super().__init__(position)
        self.name = name
        self.pipe = pipe

    def __str__(self) -> str:
        from rorqual.client.values import quote

        return f"{{{{template {quote(self.name)}{f' {self.pipe}' if self.pipe else ''}}}}}"
