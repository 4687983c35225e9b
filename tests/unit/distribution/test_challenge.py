import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.distribution import challenge


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (
            'Bearer realm="https://a/token",service="r",scope="repository:x:pull,push"',
            [("bearer", {"realm": "https://a/token", "service": "r", "scope": "repository:x:pull,push"})],
        ),
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        ('Basic realm="x", Bearer realm="y",error=insufficient_scope',
         [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "error": "insufficient_scope"})]),
        ("Negotiate", [("negotiate", {})]),
        (r'Basic realm="a\"b\\c"', [("basic", {"realm": 'a"b\\c'})]),
        ("", []),
        ("=,=", []),
    ],
)  # fmt: skip
def test_challenges_are_told_apart(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, dict(one.parameters)) for one in challenge.parse([header])] == found


@given(st.text(max_size=200))
def test_nothing_breaks_the_parser(header: str) -> None:
    challenge.parse([header])
