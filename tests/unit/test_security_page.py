"""docs/security.md names tests that exist: a protection whose test was renamed or removed is found out here."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "security.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((REPOSITORY / path).read_text())
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_named_test_is_there(path: str, name: str) -> None:
    assert (REPOSITORY / path).exists()
    assert name in functions(path)


def test_every_row_of_a_case_names_a_test() -> None:
    _, _, cases = PAGE.partition("## What went wrong elsewhere")
    cases, _, _ = cases.partition("## What is not covered")
    rows = [line for line in cases.splitlines() if line.startswith("|") and not line.startswith(("| case |", "|---"))]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []


def test_every_test_that_is_named_after_a_case_is_on_the_page() -> None:
    """One test a case is enough; a case that has a test and no row would be forgotten by its reader."""
    numbers = {
        f"{year}-{number}"
        for file in (REPOSITORY / "tests").rglob("test_*.py")
        for year, number in re.findall(r"def test_\w*cve_(\d{4})_(\d+)", file.read_text())
    }
    assert {number for number in numbers if f"CVE-{number}" not in PAGE} == set()
