"""`RUN --mount=`: the texts, what they mean, and what is refused."""

import pytest

from rorqual.builder.dockerfile.mounts import RunMount, parse
from rorqual.errdefs import InvalidArgument


def read(text: str) -> RunMount:
    return parse(text, lambda value: value.replace("$X", "expanded"), "/work")


def test_a_bind_is_what_is_meant_without_a_type() -> None:
    assert read("target=/a") == RunMount("bind", "/a", id="/a")
    assert read("type=bind,src=go.mod,dst=go.mod") == RunMount("bind", "/work/go.mod", "go.mod", id="/work/go.mod")
    assert read("from=build,source=/x,target=/y,rw") == RunMount("bind", "/y", "/x", "build", "/y", writable=True)


def test_a_cache_can_be_written_to_and_is_known_by_its_target() -> None:
    mount = read("type=cache,target=/root/.cache,sharing=locked,uid=5,gid=6,mode=0700")
    assert mount == RunMount(
        "cache", "/root/.cache", id="/root/.cache", sharing="locked", mode=0o700, uid=5, gid=6, writable=True
    )
    assert not read("type=cache,target=/c,ro").writable
    assert not read("type=cache,target=/c,readwrite=false").writable
    assert read("type=cache,target=/c,id=$X").id == "expanded"


def test_secrets_have_a_place_by_their_id_or_are_variables() -> None:
    assert read("type=secret,id=token").target == "/run/secrets/token"
    assert read("type=secret,target=/etc/pass").id == "pass"
    assert read("type=secret,id=token,env=TOKEN").target == ""
    assert read("type=secret,id=token,env=TOKEN,target=/t").target == "/t"
    assert read("type=secret,id=a,required").required
    assert read("type=ssh").id == "default"


def test_tmpfs_has_a_size() -> None:
    assert read("type=tmpfs,target=/t,size=64m").size == 64 << 20
    assert read("type=tmpfs,target=/t,size=1.5k").size == 1536


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("type=zip,target=/a", 'unsupported mount type "zip"'),
        ("type=cache", "target is required"),
        ("target=/", 'invalid mount target "/"'),
        ("type=cache,target=/a,nonsense", "invalid field 'nonsense' must be a key=value pair"),
        ("type=tmpfs,target=/a,id=x", "unexpected key 'id' for mount type 'tmpfs'"),
        ("type=cache,target=/a,sharing=some", 'unsupported sharing value "some"'),
        ("type=cache,target=/a,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/a,uid=root", "invalid value root for uid"),
        ("type=secret,id=a,required=maybe", "invalid value for required: maybe"),
        ("target=/a,bind-propagation=shared", "unexpected key 'bind-propagation' for mount type 'bind'"),
        ("type=secret", "either id or target is required"),
        ("type=tmpfs,target=/a,size=big", "invalid value for size: big"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told.replace("(", r"\(")):
        read(text)
