"""The `filters` query parameter: {"label": ["a=b"]} or the older {"label": {"a=b": true}}.

Source: Engine API 1.56, ContainerList; texts as moby's api/types/filters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

from rorqual.errdefs import InvalidArgument


class Filters:
    """Values by key. Conditions on one key are alternatives, except labels, which must all hold."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._values = dict(values or {})

    @classmethod
    def parse(cls, text: str | None, accepted: Collection[str]) -> Filters:
        """Raises: InvalidArgument for what isn't a filter map, or a key not accepted."""
        if not text:
            return cls()
        try:
            raw = json.loads(text)
        except ValueError as e:
            raise InvalidArgument("invalid filter") from e
        if raw is None:
            return cls()
        if not isinstance(raw, dict):
            raise InvalidArgument("invalid filter")
        values: dict[str, tuple[str, ...]] = {}
        for key, given in raw.items():
            if given is None:
                continue
            if isinstance(given, dict):
                given = [value for value, on in given.items() if on]
            if not isinstance(given, list) or not all(isinstance(v, str) for v in given):
                raise InvalidArgument("invalid filter")
            if key not in accepted:
                raise InvalidArgument(f"invalid filter '{key}'")
            values[key] = tuple(given)
        return cls(values)

    def plus(self, key: str, value: str) -> Filters:
        """With one more value."""
        return Filters({**self._values, key: (*self.get(key), value)})

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, key: str) -> bool:
        return bool(self._values.get(key))

    def get(self, key: str) -> tuple[str, ...]:
        """The values of `key`, () when not given."""
        return self._values.get(key, ())

    def flag(self, key: str, default: bool) -> bool:
        """A single true or false. Raises: InvalidArgument."""
        values = set(self.get(key))
        if not values:
            return default
        if values <= {"1", "true"}:
            return True
        if values <= {"0", "false"}:
            return False
        raise InvalidArgument(f"invalid filter '{key}=[{' '.join(self.get(key))}]'")

    def one_of(self, key: str, value: str) -> bool:
        """`value` is among those given, or none were."""
        values = self._values.get(key)
        return not values or value in values

    def prefix(self, key: str, value: str) -> bool:
        """`value` begins with one of those given, or none were."""
        values = self._values.get(key)
        return not values or any(value.startswith(v) for v in values)

    def pattern(self, key: str, value: str) -> bool:
        """One of those given, as a regular expression, is found in `value`, or none were."""
        values = self._values.get(key)
        return not values or any(_found(v, value) for v in values)

    def labels(self, key: str, labels: Mapping[str, str] | None) -> bool:
        """Every `name` or `name=value` given holds for `labels`."""
        for wanted in self._values.get(key, ()):
            name, equals, value = wanted.partition("=")
            if labels is None or name not in labels or (equals and labels[name] != value):
                return False
        return True

    def prunable(self, labels: Mapping[str, str] | None) -> bool:
        """Whether an object with these labels may be pruned: every `label` holds, and not every `label!` there is."""
        return self.labels("label", labels) and not ("label!" in self and self.labels("label!", labels))


def _found(pattern: str, value: str) -> bool:
    if pattern == value:
        return True
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return pattern in value
