"""Path patterns: filepath.Match's, and .dockerignore's. The cases are those of the documents that define them."""

import pytest

from rorqual.errdefs import InvalidArgument
from rorqual.patterns import Ignore, is_pattern, match


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a/b", False),
        ("a*/b", "abc/b", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("a[b-d]c", "acc", True),
        ("a[^b-d]c", "acc", False),
        ("a[]]c", "a]c", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("*", ".hidden", True),
        ("a.c", "abc", False),
    ],
)
def test_match(pattern: str, path: str, fits: bool) -> None:
    assert (match(pattern).match(path) is not None) == fits


@pytest.mark.parametrize("pattern", ["[", "[a", "[]", "[a-", "[b-a]", "a\\"])
def test_patterns_that_cannot_be_read(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        match(pattern)


def test_what_is_a_pattern() -> None:
    assert is_pattern("a*") and is_pattern("[a]") and not is_pattern("plain/path.txt")


@pytest.mark.parametrize(
    ("lines", "path", "out"),
    [
        (["*/temp*"], "dir/temporary.txt", True),
        (["*/temp*"], "a/b/temp", False),
        (["temp?"], "tempa", True),
        (["**/*.go"], "a/b/c.go", True),
        (["**/*.go"], "c.go", True),
        (["dir"], "dir/below/it", True),
        (["/dir/"], "dir/x", True),
        (["./dir/../dir"], "dir", True),
        (["# dir"], "dir", False),
        (["*.md", "!README.md"], "README.md", False),
        (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
        (["dir", "!dir/kept"], "dir/kept", False),
        (["dir", "!dir/kept"], "dir/other", True),
        (["*", "!a", "!b/c"], "b/c", False),
        (["a", ""], "b", False),
        (["**"], "x/y", True),
    ],
)
def test_dockerignore(lines: list[str], path: str, out: bool) -> None:
    assert Ignore(lines).leaves_out(path) == out


def test_a_directory_is_hidden_only_when_nothing_in_it_is_kept() -> None:
    ignore = Ignore(["dir", "other", "!dir/kept"])
    assert not ignore.hides("dir", directory=True) and ignore.hides("other", directory=True)
    assert ignore.hides("dir/x", directory=False) and not ignore.hides("dir/kept", directory=False)
    assert Ignore(["dir", "!**/kept"]).hides("dir", directory=True) is False
    with pytest.raises(InvalidArgument, match="illegal exclusion pattern"):
        Ignore(["!"])
