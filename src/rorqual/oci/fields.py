"""Reading fields of a JSON object with their types checked; the errors name document and field.

A `Fields` lives only inside the function that parses a document: what leaves is a dataclass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rorqual.errdefs import InvalidArgument
from rorqual.oci import jsontext

# Deep nesting costs the parser stack and the reader nothing useful: no image document goes below 8.
_MAX_ENTRIES = 10_000


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Two parsers could read two different documents out of one digest (CVE-2021-41190's class).
        raise InvalidArgument("a JSON object names a key twice")
    return found


class Fields:
    """A JSON object and its name, for error texts."""

    __slots__ = ("data", "where")

    def __init__(self, data: dict[str, Any], where: str) -> None:
        self.data = data
        self.where = where

    @classmethod
    def load(cls, raw: bytes, where: str, max_bytes: int) -> Fields:
        """The object in `raw`. Raises: InvalidArgument when it is too large, no JSON, or no object."""
        if len(raw) > max_bytes:
            raise InvalidArgument(f"{where}: {len(raw)} bytes, at most {max_bytes} are allowed")
        try:
            data = json.loads(raw, object_pairs_hook=_reject_duplicates)
            if jsontext.may_have_halves(raw):
                data = jsontext.with_characters(data)
        except InvalidArgument as error:
            raise InvalidArgument(f"{where}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"{where}: invalid JSON: {error}") from error
        return cls.of(data, where)

    @classmethod
    def of(cls, data: object, where: str) -> Fields:
        if not isinstance(data, dict):
            raise InvalidArgument(f"{where}: must be an object")
        return cls(data, where)

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def _wrong(self, key: str, want: str) -> InvalidArgument:
        return InvalidArgument(f"{self.where}: {key} must be {want}")

    def text(self, key: str, default: str = "") -> str:
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def number(self, key: str, default: int = 0) -> int:
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
            raise self._wrong(key, "an integer")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def sub(self, key: str) -> Fields | None:
        value = self.data.get(key)
        return None if value is None else Fields.of(value, f"{self.where}: {key}")

    def items(self, key: str) -> list[Any]:
        value = self.data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        if len(value) > _MAX_ENTRIES:
            raise self._wrong(key, f"a list of at most {_MAX_ENTRIES} entries")
        return value

    def objects(self, key: str) -> Iterator[Fields]:
        for number, value in enumerate(self.items(key)):
            yield Fields.of(value, f"{self.where}: {key}[{number}]")

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.items(key)
        if not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of strings")
        return tuple(value)

    def optional_texts(self, key: str) -> tuple[str, ...] | None:
        """None for an absent list: Docker tells `null` from `[]` in Cmd and Entrypoint."""
        return None if self.data.get(key) is None else self.texts(key)

    def text_map(self, key: str) -> dict[str, str]:
        value = self.data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self._wrong(key, "an object of strings")
        if len(value) > _MAX_ENTRIES:
            raise self._wrong(key, f"an object of at most {_MAX_ENTRIES} entries")
        return dict(value)

    def key_set(self, key: str) -> tuple[str, ...]:
        """The keys of an object whose values mean nothing (`Volumes`, `ExposedPorts`), sorted."""
        value = self.data.get(key)
        if value is None:
            return ()
        if not isinstance(value, dict) or len(value) > _MAX_ENTRIES:
            raise self._wrong(key, f"an object of at most {_MAX_ENTRIES} entries")
        return tuple(sorted(value))
