"""The wire codec agrees with protobuf's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.errdefs import InvalidArgument
from rorqual.rpc import taskapi
from rorqual.rpc.metrics import CPUUsage
from rorqual.rpc.proto import mount_pb2, tasks_pb2
from rorqual.rpc.wire import Any_, Timestamp

texts = st.text(max_size=40)


@given(texts, texts, st.lists(texts, max_size=4))
def test_mount_is_what_protobuf_writes(kind: str, source: str, options: list[str]) -> None:
    ours = taskapi.Mount(type=kind, source=source, options=options)
    theirs = mount_pb2.Mount(type=kind, source=source, options=options)
    assert ours.encode() == theirs.SerializeToString()
    assert taskapi.Mount.decode(theirs.SerializeToString()) == ours


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**62), st.integers(0, 999_999_999))
def test_wait_response_is_what_protobuf_writes(status: int, seconds: int, nanos: int) -> None:
    ours = taskapi.WaitResponse(status, Timestamp(seconds, nanos))
    theirs = tasks_pb2.WaitResponse(exit_status=status)
    theirs.exited_at.seconds, theirs.exited_at.nanos = seconds, nanos
    theirs.exited_at.SetInParent()
    assert tasks_pb2.WaitResponse.FromString(ours.encode()) == theirs
    assert taskapi.WaitResponse.decode(theirs.SerializeToString()) == ours


def test_maps_and_embedded_messages_round_trip() -> None:
    message = taskapi.UpdateTaskRequest("id", Any_("url", b"\x00\xff"), {"a": "1", "b": ""})
    assert taskapi.UpdateTaskRequest.decode(message.encode()) == message


def test_unknown_fields_are_skipped() -> None:
    extra = b"\x7a\x03abc" + b"\x70\x01" + b"\x6d\x00\x00\x00\x00"
    assert taskapi.StartRequest.decode(extra + taskapi.StartRequest("x", "y").encode()) == taskapi.StartRequest(
        "x", "y"
    )


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_clear_error(data: bytes) -> None:
    try:
        taskapi.CreateTaskRequest.decode(data)
    except InvalidArgument as e:
        assert "malformed message" in str(e)


def test_a_number_in_place_of_bytes_makes_no_memory_of_its_size() -> None:
    number = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
    for message, field in ((taskapi.StartRequest, 1), (Any_, 2), (taskapi.UpdateTaskRequest, 2)):
        with pytest.raises(InvalidArgument, match="a number where"):
            message.decode(bytes((field << 3,)) + number)
    with pytest.raises(InvalidArgument, match="a number where"):  # in an entry of a map
        taskapi.UpdateTaskRequest.decode(b"\x1a\x0a\x08" + number)


def test_timestamp_keeps_nanoseconds() -> None:
    assert Timestamp.from_ns(1_700_000_000_123_456_789).to_ns() == 1_700_000_000_123_456_789


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x0a", b"\x08" + b"\xff" * 11, b"\x0b"])
def test_cut_and_overlong_input_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        taskapi.Mount.decode(data)


def test_packed_numbers_are_read_too() -> None:
    packed = b"\x22\x04\x01\xac\x02\x00"  # field 4: 1, 300, 0
    assert CPUUsage.decode(packed).per_cpu == [1, 300, 0]
    assert CPUUsage.decode(CPUUsage(per_cpu=[1, 300, 0]).encode()).per_cpu == [1, 300, 0]
    with pytest.raises(InvalidArgument):
        CPUUsage.decode(b"\x22\x01\x80")
