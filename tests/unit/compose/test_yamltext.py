"""YAML 1.2's scalars, merge keys and Compose's tags."""

import pytest

from rorqual.compose import yamltext
from rorqual.compose.yamltext import RESET, Override
from rorqual.errdefs import InvalidArgument


def read(text: str) -> object:
    (document,) = yamltext.load(text, "f.yaml")
    return document


def test_scalars_are_what_they_look_like() -> None:
    text = "a: 22:22\nb: on\nc: yes\nd: true\ne: 0440\nf: 0o17\ng: 0x1F\nh: 1.5\n"
    text += "i: 1_000\nj: 2024-01-02\nk: ~\nl: -5\nm: 1e3\n"
    assert read(text) == {
        "a": "22:22", "b": "on", "c": "yes", "d": True, "e": 0o440, "f": 0o17, "g": 31, "h": 1.5, "i": "1_000",
        "j": "2024-01-02", "k": None, "l": -5, "m": 1000.0,
    }  # fmt: skip


def test_merge_keys_and_anchors() -> None:
    text = "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: {<<: [*x, {c: 4}]}\n"
    assert read(text) == {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": {"a": 1, "b": 2, "c": 4}}


def test_keys_are_texts() -> None:
    assert read("1: a\ntrue: b\nnull: c") == {"1": "a", "true": "b", "null": "c"}


def test_tags() -> None:
    document = read("a: !reset null\nb: !override [1, {c: 2}]\nd: !override x")
    assert isinstance(document, dict) and document["a"] is RESET
    assert isinstance(document["b"], Override) and document["b"].value == [1, {"c": 2}]
    assert document["d"].value == "x"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", 'f.yaml: yaml: line 3: mapping key "a" already defined at line 1'),
        ("a: [1", "f.yaml: yaml: line"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("? [a]\n: b", "a mapping's key must be a text"),
        ("a: *none", "undefined alias"),
        ("\tx: 1", "f.yaml: yaml: line 1"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        read(text)


def test_aliases_that_stand_for_more_than_memory_holds() -> None:
    """The "billion laughs": each line nine times the one before."""
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    with pytest.raises(InvalidArgument, match="document contains excessive aliasing"):
        read("\n".join(lines))
    with pytest.raises(InvalidArgument, match="recursive"):
        read("a: &a [*a]")
    with pytest.raises(InvalidArgument, match="line 1: nested too deeply"):
        read("[" * 100_000)


def test_what_is_written_is_read_again() -> None:
    document = {"a": ["yes", "true", "", "1", "0x1", "22:22", "x\ny\n", "null", "~", "# x"], "b": {"c": None, "d": 1.5}}
    assert read(yamltext.dump(document)) == document
