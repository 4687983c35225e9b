"""Files of variables."""

from pathlib import Path

import pytest

from rorqual.compose import dotenv
from rorqual.errdefs import InvalidArgument

OWN = {"HOST": "h"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\nB = 2\nexport C=3\n", {"A": "1", "B": "2", "C": "3"}),
        ("# a\n\n  # b\nA=x # tail\nB=x#y\n", {"A": "x", "B": "x#y"}),
        ('A=\'$HOST \\n\'\nB="$HOST \\n\\"q\\" \\$HOST"', {"A": "$HOST \\n", "B": 'h \n"q" $HOST'}),
        ("A=1\nB=${A}2\nC=$HOST\nD=${NO:-d}", {"A": "1", "B": "12", "C": "h", "D": "d"}),
        ("HOST=mine\nA=$HOST", {"HOST": "mine", "A": "h"}),
        ("A=\nB=''\nC: yes", {"A": "", "B": "", "C": "yes"}),
        ("A='l1\nl2' # more\nB=2", {"A": "l1\nl2", "B": "2"}),
        ("HOST\nNOTHERE\nA=1", {"HOST": "h", "A": "1"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=a b  c \n", {"A": "a b  c"}),
        ("A.b-c=1", {"A.b-c": "1"}),
        ("A=$2y$10$abc\nB=pa$(x)$", {"A": "$2y$10", "B": "pa$(x)$"}),
        ("", {}),
    ],
)
def test_what_lines_say(text: str, expected: dict[str, str]) -> None:
    assert dotenv.parse(text, OWN.get) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A=1\nB c=2", 'line 2: unexpected character in variable name "B c=2"'),
        ("A='x", "line 1: unterminated quoted value 'x"),
        ('\nA="x" y', "line 2: unexpected character behind the closing quote: y"),
        ("A=${", "line 1"),
        ("=x", "line 1: unexpected character in variable name"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        dotenv.parse(text, OWN.get)


def test_raw_files_are_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_text("A='$HOST' # x\n#B=1\nHOST\nNO\n")
    assert dotenv.read(path, OWN.get, raw=True) == {"A": "'$HOST' # x", "HOST": "h"}


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.env"
    path.write_text("A B")
    with pytest.raises(InvalidArgument, match=r"failed to read .*bad\.env: line 1"):
        dotenv.read(path, OWN.get)
