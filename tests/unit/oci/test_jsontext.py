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
