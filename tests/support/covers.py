"""Which rows of a command line's table (a command, or a command with one of its flags) a test shows the effect of.

    @covers("run --ip", "create --ip")
    def test_an_address_that_was_asked_for_answers(...)

A check per group of commands asks `uncovered` for the rows that no test of its modules names.
"""

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


def covers(*rows: str) -> Callable[[F], F]:
    """Marks a test with the rows whose effect it shows."""

    def mark(test: F) -> F:
        test.covers = rows  # type: ignore[attr-defined]
        return test

    return mark


def covered(modules: Iterable[ModuleType]) -> set[str]:
    """The rows that tests of these modules name."""
    named = (item for module in modules for item in vars(module).items())
    tests = [value for name, value in named if name.startswith("test_") and callable(value)]
    return {row for test in tests for row in getattr(test, "covers", ())}


def uncovered(rows: Iterable[str], *modules: ModuleType) -> list[str]:
    """Rows that no test of these modules names, in their order."""
    found = covered(modules)
    return [row for row in rows if row not in found]


def unknown(rows: Iterable[str], *modules: ModuleType) -> list[str]:
    """What tests name that is no row: misspelt, or of a flag that is gone."""
    return sorted(covered(modules) - set(rows))
