"""A Dockerfile's text to instructions. Sections of the Dockerfile reference name the cases."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rorqual.builder.dockerfile.parser import INSTRUCTIONS, Instruction, parse
from rorqual.builder.dockerfile.stages import recipe
from rorqual.errdefs import InvalidArgument


def read(text: str) -> list[Instruction]:
    return list(parse(text.encode()).instructions)


def texts(text: str) -> list[tuple[str, str]]:
    return [(one.name, one.text) for one in read(text)]


def test_format_comments_and_continued_lines() -> None:
    found = texts("# a comment\n\n  from busybox\nRUN a \\\n# between\n\n   b \\  \n c # kept\r\nCMD\n")
    assert found == [("FROM", "busybox"), ("RUN", "a    b  c # kept"), ("CMD", "")]


def test_lines_are_told() -> None:
    assert [one.line for one in read("\n\nFROM a\nRUN b \\\n c\n\nRUN d")] == [3, 4, 7]


def test_parser_directives() -> None:
    found = parse(b"#escape=`\n# syntax = docker/dockerfile:1\nFROM a\nRUN dir C:\\ `\n x\n")
    assert found.escape == "`" and found.directives["syntax"] == "docker/dockerfile:1"
    assert found.instructions[1].text == "dir C:\\  x"
    assert parse(b"# unknown=1\n# escape=`\nFROM a\n").escape == "\\", "an unknown one is a comment that ends them"
    assert parse(b"\n# escape=`\nFROM a\n").escape == "\\"
    assert parse(b"\xef\xbb\xbfFROM a\n").instructions[0].name == "FROM"


def test_flags_are_before_the_words() -> None:
    (copy,) = read("COPY --from=x --chown='1:1' --link a --b /c")
    assert copy.flags == (("from", "x"), ("chown", "'1:1'"), ("link", "true")) and copy.text == "a --b /c"
    (copy,) = read("COPY -- --a /c")
    assert copy.flags == () and copy.text == "--a /c"


def test_the_exec_form_is_json_and_nothing_else() -> None:
    forms = read('CMD ["a", "b c"]\nCMD [a]\nCMD ["a", 1]\nCMD a "b"')
    assert [one.listed() for one in forms] == [("a", "b c"), None, None, None]


def test_here_documents() -> None:
    copy, run, next_one = read("COPY <<one <<-'two' /to/\na $b\none\n\t\tc\n\ttwo\nRUN cat 3<<EOF\nx\nEOF\nRUN y")
    assert [(h.name, h.content, h.expand) for h in copy.heredocs] == [("one", "a $b\n", True), ("two", "c\n", False)]
    assert run.heredocs[0].content == "x\n" and run.heredocs[0].fd == 3
    assert (next_one.text, next_one.line) == ("y", 9)
    assert read("RUN echo $((1<<2))\nRUN a << b")[0].heredocs == ()
    assert read("RUN cat <<<word")[0].heredocs == ()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "the Dockerfile cannot be empty"),
        ("# only\n", "file with no instructions"),
        ("FORM a", r"line 1: unknown instruction: FORM \(did you mean FROM\?\)"),
        ("FROM a\n\nxyzzy b", r"line 3: unknown instruction: xyzzy\Z"),
        ("FROM a\nENV", "line 2: ENV must have two arguments"),
        ("FROM a\nCOPY", "line 2: COPY requires at least one argument"),
        ("#escape=x\nFROM a", "line 1: invalid escape token 'x'"),
        ("#escape=`\n#escape=`\nFROM a", "line 2: only one escape parser directive"),
        ("FROM a\nRUN <<EOF\nx", "line 2: unterminated heredoc: EOF"),
    ],
)
def test_what_cannot_be_read(text: str, error: str) -> None:
    with pytest.raises(InvalidArgument, match=error):
        parse(text.encode())


def test_stages_and_what_a_target_needs() -> None:
    found = recipe(
        parse(
            b"ARG V=1\nFROM a AS One\nFROM b\nRUN x\nFROM one AS three\nCOPY --from=1 /x /y\nFROM c AS four\n"
            b"RUN --mount=type=bind,from=three,target=/x y\n"
        )
    )
    assert [stage.name for stage in found.stages] == ["one", "", "three", "four"]
    assert [stage.index for stage in found.needed(found.target("three"), {})] == [0, 1, 2]
    assert [stage.index for stage in found.needed(found.target("1"), {})] == [1]
    assert [stage.index for stage in found.needed(found.target(""), {})] == [0, 1, 2, 3]
    assert found.find("three", 2) is None, "a stage is known only after itself"
    with pytest.raises(InvalidArgument, match='target stage "five" could not be found'):
        found.target("five")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("RUN x", "line 1: no build stage in current context"),
        ("ARG a", "dockerfile contains no stages to build"),
        ("FROM a AS", "FROM requires either one or three arguments"),
        ("FROM a AS 1x", 'invalid name for build stage: "1x"'),
        ("FROM --nope=1 a", "unknown flag: --nope"),
    ],
)
def test_stages_that_cannot_be(text: str, error: str) -> None:
    with pytest.raises(InvalidArgument, match=error):
        recipe(parse(text.encode()))


PIECES = [
    *sorted(INSTRUCTIONS),
    "\n",
    " ",
    "\\\n",
    "#",
    "<<E",
    "E\n",
    "--a=b",
    "--",
    '["a"]',
    "$X",
    "${",
    "'",
    '"',
    "a",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=40).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        recipe(parse(text.encode(errors="replace")))
    except InvalidArgument as error:
        assert str(error)
