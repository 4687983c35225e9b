"""Protocol Buffers' wire format: what is written is read, and what is damaged is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual import protowire

_RECORDS = st.lists(
    st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary(max_size=300)), max_size=8
)


def encoded(records: list[tuple[int, int | bytes]]) -> bytes:
    out = bytearray()
    for number, value in records:
        if isinstance(value, int):
            protowire.put_number(out, number, value)
        else:
            protowire.put_bytes(out, number, value)
    return bytes(out)


@given(_RECORDS)
def test_records_are_read_as_they_were_written(records: list[tuple[int, int | bytes]]) -> None:
    found = protowire.records(memoryview(encoded(records)))
    assert [(number, raw if isinstance(raw, int) else bytes(raw)) for number, raw in found] == records


@given(_RECORDS.filter(bool), st.data())
def test_a_cut_message_is_refused_or_ends_between_two_records(
    records: list[tuple[int, int | bytes]], data: st.DataObject
) -> None:
    whole = encoded(records)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    ends = {len(encoded(records[:count])) for count in range(len(records))}
    try:
        list(protowire.records(memoryview(cut)))
    except (ValueError, IndexError):
        assert len(cut) not in ends
    else:
        assert len(cut) in ends


def test_a_negative_number_has_64_bits() -> None:
    [(number, raw)] = protowire.records(memoryview(encoded([(3, -1)])))
    assert (number, raw) == (3, 2**64 - 1)


@pytest.mark.parametrize("data", [b"\x0b", b"\x0c", b"\x08" + b"\xff" * 11, b"\x09\0\0", b"\x0d\0"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # it has no message of its own to tell
        list(protowire.records(memoryview(data)))
