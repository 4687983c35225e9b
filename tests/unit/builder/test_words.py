"""Words and variables of an instruction, as Docker's shell words."""

import pytest

from rorqual.builder.dockerfile.words import expand, expand_heredoc, split
from rorqual.errdefs import InvalidArgument

ENV = {"A": "v", "E": "", "P": "/a/b/c.tar.gz", "W": "one  two"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("$A-${A}", "v-v"),
        ("'$A'", "$A"),
        ('"$A \\" \\$ \\x"', 'v " $ \\x'),
        ("\\$A", "$A"),
        ("a\\ b", "a b"),
        ("$NONE.", "."),
        ("$", "$"),
        ("$1$?$#", ""),
        ("${A:-d}${E:-d}${N:-d}", "vdd"),
        ("${A-d}${E-d}${N-d}", "vd"),
        ("${A:+d}${E:+d}${N:+d}", "d"),
        ("${A+d}${E+d}${N+d}", "dd"),
        ("${N:-${A}x}", "vx"),
        ("${N:-'a b'}", "a b"),
        ("${A:?no}", "v"),
        ("${P#*/}", "a/b/c.tar.gz"),
        ("${P##*/}", "c.tar.gz"),
        ("${P%.*}", "/a/b/c.tar"),
        ("${P%%.*}", "/a/b/c"),
        ("${P%x}", "/a/b/c.tar.gz"),
        ("${P/b/X}", "/a/X/c.tar.gz"),
        ("${P//\\//-}", "-a-b-c.tar.gz"),
        ("${P//?.tar}", "/a/b/.gz"),
        ("${P/a/$A}", "/v/b/c.tar.gz"),
    ],
)
def test_expansion(text: str, shown: str) -> None:
    assert expand(text, ENV) == shown


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("${", "bad substitution"),
        ("${}", "bad substitution"),
        ("${A", "missing '}'"),
        ("${A:-x", "missing '}'"),
        ("${A#x", "missing '}'"),
        ("${A^}", r"unsupported modifier \(\^\)"),
        ("${A:^}", r"unsupported modifier \(\^\)"),
        ("${N:?must be}", "N: must be"),
        ("${N?}", "N: is not allowed to be unset"),
        ("'open", "matching single-quote"),
        ('"open', "matching double-quote"),
    ],
)
def test_what_cannot_be_expanded(text: str, error: str) -> None:
    with pytest.raises(InvalidArgument, match=error):
        expand(text, ENV)


def test_another_escape_character() -> None:
    assert expand("`$A \\$A", ENV, "`") == "$A \\v"
    assert split("a` b c", "`") == ["a` b", "c"]


def test_a_here_document_keeps_its_quotes() -> None:
    assert expand_heredoc("'$A' \"${A}\" \\$A \\n\n", ENV) == "'v' \"v\" $A \\n\n"
