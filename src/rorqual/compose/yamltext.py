"""YAML as Compose files use it: YAML 1.2's scalars, merge keys, !reset and !override; a key twice is an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from rorqual.errdefs import InvalidArgument


class Reset:
    """!reset: the value of the files before is taken away."""


class Override:
    """!override: the value replaces what the files before said."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def mapped(self, change: Callable[[Any], Any]) -> Override:
        return Override(change(self.value))


RESET = Reset()


class _Loader(yaml.CSafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """YAML 1.1, PyYAML's, reads `22:22` as a number of base 60 and `on` as a boolean."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (the class's own, as PyYAML has it)


_TAG = "tag:yaml.org,2002:"
_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    _TAG + "int", re.compile(r"^(?:[-+]?0o?[0-7]+|[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    _TAG + "float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(_TAG + "merge", re.compile(r"^<<$"), ["<"])
_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])


def _integer(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node)
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    if digits.startswith(("0x", "0o")):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if len(digits) > 1 and digits.startswith("0") else 10)


def _mapping(loader: Any, node: Any) -> dict[str, Any]:
    seen: dict[Any, int] = {}
    for key, _ in node.value:
        if key.tag == _TAG + "merge":
            continue
        found = loader.construct_object(key)
        if isinstance(found, list | dict):
            raise yaml.constructor.ConstructorError(None, None, "a mapping's key must be a text", key.start_mark)
        name = _key(found)
        if name in seen:
            text = f'mapping key "{name}" already defined at line {seen[name]}'
            raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
        seen[name] = key.start_mark.line + 1
    loader.flatten_mapping(node)
    return {_key(loader.construct_object(key)): loader.construct_object(value, deep=True) for key, value in node.value}


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    return "null" if key is None else str(key)


def _override(loader: Any, node: Any) -> Override:
    kind = type(node)
    tag = loader.resolve(kind, node.value if kind is yaml.ScalarNode else None, (True, False))
    # Another node, as this one is being constructed.
    return Override(loader.construct_object(kind(tag, node.value, node.start_mark, node.end_mark), deep=True))


_Loader.add_constructor(_TAG + "int", _integer)
_Loader.add_constructor(_TAG + "map", _mapping)
_Loader.add_constructor("!reset", lambda loader, node: RESET)
_Loader.add_constructor("!override", _override)


_MAX_NODES = 1_000_000
_MAX_DEPTH = 200


def _check_depth(text: str | bytes) -> None:
    """The library builds a document by recursion in C, and a deep one ends the process. Raises: ValueError."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise ValueError(f"line {event.start_mark.line + 1}: nested too deeply")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _documents(loader: Any) -> Iterator[Any]:
    """A few lines of aliases can stand for more than a machine's memory: counted before anything is made of them."""
    try:
        while loader.check_node():
            node = loader.get_node()
            if _size(node, {}) > _MAX_NODES:
                raise ValueError("document contains excessive aliasing")
            yield loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: Any, known: dict[int, int]) -> int:
    """How many nodes it is with its aliases written out. Raises: ValueError for one that is in itself."""
    size = known.get(id(node))
    if size is None:
        known[id(node)] = -1
        children: list[Any] = []
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        size = known[id(node)] = 1 + sum(_size(child, known) for child in children)
    if size < 0:
        raise ValueError("found unconstructable recursive node")
    return size


def load(text: str | bytes, path: str) -> list[Any]:
    """The file's documents. Raises: InvalidArgument."""
    try:
        _check_depth(text)
        return list(_documents(_Loader(text)))
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise InvalidArgument(f"failed to parse {path}: yaml: {where}{e.problem or e.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise InvalidArgument(f"failed to parse {path}: yaml: {e}") from None


def read(path: Path) -> list[Any]:
    """Raises: OSError, InvalidArgument."""
    return load(path.read_bytes(), str(path))


class _Dumper(yaml.CSafeDumper):  # type: ignore[misc]  # as above
    pass


def _text(dumper: Any, value: str) -> Any:
    # What another reader would take for something else is quoted; a text of lines is a block.
    plain = _Dumper.yaml_implicit_resolvers.get(value[:1], [])
    ambiguous = not value or any(pattern.match(value) for _, pattern in plain) or value in ("y", "n", "Y", "N")
    style = "|" if "\n" in value else '"' if ambiguous else None
    return dumper.represent_scalar(_TAG + "str", str(value), style=style)


_Dumper.add_multi_representer(str, _text)
_Dumper.add_representer(str, _text)
_Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(_TAG + "null", "null"))


def dump(document: Any) -> str:
    """The document as YAML, keys in their order."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20))
