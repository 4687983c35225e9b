"""The list of mutations does not rot: each still applies, names a test that is there, and is what the page says."""

import ast

import pytest
from mutation.mutations import REPOSITORY, Mutation
from mutation.run import MUTATIONS

PAGE = (REPOSITORY / "docs" / "security.md").read_text()
# Of what calls leave behind this one knows no protection to take away: each has several.
MEASURED = {"test_ten_thousand_aborted_resizes"}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.test.rpartition("::")[2])
def test_a_mutation_applies_to_the_source(mutation: Mutation) -> None:
    for edit in mutation.edits:
        assert edit.applied(REPOSITORY) != (REPOSITORY / "src/rorqual" / edit.file).read_text()


@pytest.mark.parametrize("test", sorted({m.test for m in MUTATIONS}))
def test_a_mutations_test_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    tree = ast.parse((REPOSITORY / path).read_text())
    assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_case_of_the_page_says_what_its_test_fails_without() -> None:
    removed: dict[str, list[str]] = {}
    for mutation in MUTATIONS:
        removed.setdefault(mutation.test, []).append(mutation.removed)
    _, _, cases = PAGE.partition("## What went wrong elsewhere")
    cases, _, _ = cases.partition("## What is not covered")
    rows = [line for line in cases.splitlines() if line.startswith("|") and "`tests/" in line]
    assert rows
    wrong = []
    for row in rows:
        _case, tests, without = (cell.strip() for cell in row.strip("|").split("|"))
        named = [test.strip("` ") for test in tests.split(",")]
        expected = "; ".join(dict.fromkeys(r for test in named for r in removed.get(test, ())))
        if all(test.rpartition("::")[2] in MEASURED for test in named):
            expected = "(measured)"
        if not expected or without != expected:
            wrong.append(f"{named}: the page has {without!r}, the mutations have {expected!r}")
    assert wrong == []
