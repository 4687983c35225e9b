"""Variables in values. Source: Compose Specification, "Interpolation"."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.compose.interpolate import Interpolator, variables
from rorqual.errdefs import InvalidArgument

KNOWN = {"SET": "value", "EMPTY": "", "OTHER": "o"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$SET-$OTHER", "value-o"),
        ("${SET}x", "valuex"),
        ("$$SET $${SET}", "$SET ${SET}"),
        ("${SET:-d}", "value"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NONE-d}", "d"),
        ("${NONE:-a${OTHER}b${NONE:-c}}", "aobc"),
        ("${NONE:-}", ""),
        ("${SET:+there}", "there"),
        ("${EMPTY:+there}", ""),
        ("${EMPTY+there}", "there"),
        ("${NONE+there}", ""),
        ("${SET:?needed}", "value"),
        ("${EMPTY?needed}", ""),
        ("${NONE:-http://x:80/?a=b}", "http://x:80/?a=b"),
        ("$NONE.", "."),
        ("$", "$"),
        ("$(date) $1 $? a$", "$(date) $1 $? a$"),
        ('${SET:-{"a": 1}}', "value"),
        ('${NONE:-{"a": {}}}', '{"a": {}}'),
    ],
)
def test_what_it_stands_for(text: str, expected: str) -> None:
    assert Interpolator(KNOWN.get).text(text, "at") == expected


@pytest.mark.parametrize(
    "text", ["${", "${}", "${SET", "${SET!}", "${1X}", "a ${ SET } b", "${SET:-" * 200 + "}" * 200]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"(?s)invalid interpolation format for services\.a.*another \$"):
        Interpolator(KNOWN.get).text(text, "services.a")


@pytest.mark.parametrize("text", ["${NONE?gone}", "${NONE:?gone}", "${EMPTY:?go${OTHER:+n}e}"])
def test_one_that_is_needed(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"while interpolating a: required variable .* is missing a value: gone"):
        Interpolator(KNOWN.get).text(text, "a")


def test_documents_keep_their_keys_and_one_warning_is_enough() -> None:
    told: list[str] = []
    document = {"$SET": ["$NONE", {"a": "${NONE}${SET}"}, 5, None, True]}
    found = Interpolator(KNOWN.get, told.append).value(document, "")
    assert found == {"$SET": ["", {"a": "value"}, 5, None, True]}
    assert told == ['The "NONE" variable is not set. Defaulting to a blank string.']


def test_variables_of_a_document() -> None:
    assert variables({"a": ["${A:-x${B:?}}", "$C$$D"], "b": "${E:+y}"}) == {
        "A": (False, "x${B:?}", ""),
        "B": (True, "", ""),
        "C": (False, "", ""),
        "E": (False, "", "y"),
    }


@given(st.text(alphabet="$ab{}:-?+ ", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Interpolator({"a": "1"}.get).text(text, "at")
    except InvalidArgument:
        return


@given(st.text(max_size=30))
def test_an_escaped_text_is_itself(text: str) -> None:
    assert Interpolator({}.get).text(text.replace("$", "$$"), "at") == text
