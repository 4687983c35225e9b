"""containerd's filter syntax."""

from collections.abc import Sequence

import pytest

from rorqual.containerd.filters import compile_filters
from rorqual.errdefs import InvalidArgument

FIELDS = {
    ("name",): "docker.io/library/busybox:latest",
    ("labels", "containerd.io/gc.root"): "yes",
    ("labels", "a"): "b,c",
    ("empty",): "",
}


def matches(*filters: str) -> bool:
    def lookup(path: Sequence[str]) -> str | None:
        return FIELDS.get(tuple(path))

    return compile_filters(filters)(lookup)


@pytest.mark.parametrize(
    "text",
    [
        "name==docker.io/library/busybox:latest",
        'labels."containerd.io/gc.root"==yes',
        'labels.a=="b,c"',
        "name~=busybox",
        "name~=/busybox:.*/",
        "name!=x",
        "missing!=x",
        "name",
        'name,labels."containerd.io/gc.root"==yes',
        "empty==",
        "",
    ],
)
def test_holds(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize("text", ["name==x", "missing", "missing==x", "name,missing", "missing~=.*", "labels.a==b"])
def test_does_not_hold(text: str) -> None:
    assert not matches(text)


def test_several_filters_are_alternatives() -> None:
    assert matches("name==x", "name~=busy")
    assert not matches("name==x", "name==y")


def test_none_matches_everything() -> None:
    assert matches()


@pytest.mark.parametrize(
    "text", ["==x", 'name=="x', "name=x", "name==x y", ",", "name,", "name~=[", "a..b", 'name=="\\q"']
)
def test_what_cannot_be_parsed_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"filters: parse error"):
        matches(text)
