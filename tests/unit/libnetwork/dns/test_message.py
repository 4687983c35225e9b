import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.libnetwork.dns import message


def query(name: str = "web", qtype: int = message.A, *, edns: int = 0, ident: int = 7) -> bytes:
    head = struct.pack("!HHHHHH", ident, 0x0100, 1, 0, 0, 1 if edns else 0)
    opt = struct.pack("!BHHIH", 0, message.OPT, edns, 0, 0) if edns else b""
    return head + message.encode_name(name) + struct.pack("!HH", qtype, message.IN) + opt


def test_a_question_is_read_whatever_its_letters() -> None:
    asked = message.parse(query("WeB.Red"))
    assert asked is not None
    assert (asked.ident, asked.name, asked.qtype, asked.limit) == (7, "web.red", message.A, 512)
    assert asked.raw == query("WeB.Red")[12:]


def test_edns_raises_the_limit_and_is_answered_in_kind() -> None:
    asked = message.parse(query(edns=4096))
    assert asked is not None and asked.limit == 1232
    answer = message.answer(asked, [b"\x0a\0\0\1"])
    assert struct.unpack_from("!HHHHHH", answer)[3:] == (1, 0, 1)


def test_an_answer_repeats_the_question_and_gives_the_records() -> None:
    asked = message.parse(query("web"))
    assert asked is not None
    answer = message.answer(asked, [bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))])
    assert answer[:2] == b"\0\7" and answer[2] & 0x80 and answer[12 : 12 + len(asked.raw)] == asked.raw
    assert struct.unpack_from("!HH", answer, 4) == (1, 2)
    assert answer.endswith(b"\0\4" + bytes((10, 0, 0, 2)))


def test_what_does_not_fit_is_left_out_and_said() -> None:
    asked = message.parse(query("web"))
    assert asked is not None
    records = [bytes((10, 0, 1, number)) for number in range(200)]
    short = message.answer(asked, records, limit=512)
    assert len(short) <= 512 and short[2] & 0x02
    assert 20 < struct.unpack_from("!H", short, 6)[0] < 200
    whole = message.answer(asked, records)
    assert not whole[2] & 0x02 and struct.unpack_from("!H", whole, 6)[0] == 200


@pytest.mark.parametrize(
    "name,address",
    [
        ("2.0.17.172.in-addr.arpa", b"\xac\x11\0\2"),
        ("2." + "0." * 29 + "d.f.ip6.arpa", b"\xfd" + bytes(14) + b"\2"),
        ("2.0.d.f.ip6.arpa", None),
        ("1.0.17.in-addr.arpa", None),
        ("x.0.17.172.in-addr.arpa", None),
        ("999.0.17.172.in-addr.arpa", None),
        ("web", None),
    ],
)
def test_reverse_names(name: str, address: bytes | None) -> None:
    assert message.reverse_address(name) == address


@given(st.binary(max_size=600))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    asked = message.parse(data)
    if asked is not None:
        assert message.answer(asked, [b"\0\0\0\0"])[:2] == data[:2]
    elif message.is_query(data):
        assert message.failure(data, b"", message.FORMERR)[:2] == data[:2]


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64])
def test_names_that_cannot_be_encoded(name: str) -> None:
    with pytest.raises(ValueError, match="invalid DNS label"):
        message.encode_name(name)


def test_a_name_beyond_255_bytes_is_none() -> None:
    assert len(message.encode_name(".".join(["y" * 62] * 4))) == 253
    with pytest.raises(ValueError, match="too long"):
        message.encode_name(".".join(["y" * 60] * 5))
