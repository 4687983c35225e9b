import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.errdefs import InvalidArgument
from rorqual.oci import reference
from rorqual.oci.digest import Digest

D = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t"),
        ("[::1]:5000/x:y", "[::1]:5000/x:y", "[::1]:5000/x:y"),
        ("Host/x", "Host/x:latest", "Host/x:latest"),
        (f"busybox@{D}", f"docker.io/library/busybox@{D}", f"busybox@{D}"),
        (f"busybox:1@{D}", f"docker.io/library/busybox:1@{D}", f"busybox:1@{D}"),
        ("a--b__c.d_e", "docker.io/library/a--b__c.d_e:latest", "a--b__c.d_e:latest"),
    ],
)
def test_names_are_normalised(text: str, whole: str, familiar: str) -> None:
    found = reference.parse(text).with_default_tag()
    assert (str(found), found.familiar) == (whole, familiar)
    assert reference.parse(whole) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("x:", "invalid reference format"),
        ("-x", "invalid reference format"),
        ("x//y", "invalid reference format"),
        ("x:y:z", "invalid reference format"),
        ("x y", "invalid reference format"),
        ("../x", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("x\n", "invalid reference format"),
        ("x:" + "t" * 129, "invalid reference format"),
        ("x@sha256:short", "invalid reference format"),
        ("x@sha256:" + "a" * 40, "invalid checksum digest length"),
        ("x@md5:" + "a" * 32, "unsupported digest algorithm"),
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("u/Foo:T", "invalid reference format: repository name (u/Foo) must be lowercase"),
        ("a" * 256, "repository name must not be more than 255 characters"),
        ("f" * 64, f"invalid repository name ({'f' * 64}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_bad_names_are_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        reference.parse(text)
    assert str(caught.value) == message


def test_an_id_is_told_from_a_name() -> None:
    assert reference.parse_any("a" * 64) == Digest(D)
    assert reference.parse_any(D) == Digest(D)
    assert isinstance(reference.parse_any("abc"), reference.Reference)


@given(st.text(max_size=80))
def test_what_parses_is_stable(text: str) -> None:
    try:
        found = reference.parse(text)
    except InvalidArgument:
        return
    assert reference.parse(str(found)) == found
    assert reference.parse(found.familiar) == found
