"""The lean JSON reader and writer agree with the library's."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.oci import jsontext

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(_values)
def test_what_is_written_is_read(value: object) -> None:
    text = jsontext.dumps(value)
    assert text == json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert jsontext.dumps_indented(value, "\t") == json.dumps(value, indent="\t", ensure_ascii=False)
    assert jsontext.loads(f" \n{text}\t") == jsontext.loads(text.encode()) == value


@given(st.lists(_values))
def test_values_in_a_row_are_scanned_one_after_the_other(values: list[object]) -> None:
    text = " ".join(map(jsontext.dumps, values))
    position, found = 0, []
    while position < len(text):
        value, position = jsontext.scan(text, position)
        found.append(value)
        position += 1
    assert found == values


@pytest.mark.parametrize("text", ["", "{", "nul"])
def test_a_bad_value_is_not_scanned(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        jsontext.scan(text, 0)


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", '{"a" 1}', "nul", "1 2", '"\n"', "\ufeff{}"])
def test_bad_json_has_the_librarys_error(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as theirs:
        json.loads(text)
    with pytest.raises(json.JSONDecodeError) as ours:
        jsontext.loads(text)
    assert str(ours.value) == str(theirs.value)


def test_what_is_no_json_is_not_written() -> None:
    with pytest.raises(TypeError):
        jsontext.dumps({"a": object()})
