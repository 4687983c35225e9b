"""Errors on the wire, both ways."""

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from rorqual import errdefs
from rorqual.rpc import codes, status

CLASSES = [c for c in vars(errdefs).values() if isinstance(c, type) and issubclass(c, errdefs.Error)]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_the_way_there_and_back(kind: type[errdefs.Error]) -> None:
    back = status.from_grpc(status.to_grpc(kind("text")))
    expected = errdefs.Conflict if kind is errdefs.NotModified else kind  # one status for both
    assert type(back) is expected
    assert str(back) == "text"


def test_an_error_outside_the_taxonomy_is_ours() -> None:
    assert status.to_grpc(ZeroDivisionError("x")).status is Status.INTERNAL


def test_a_lost_connection_is_unavailable() -> None:
    with pytest.raises(errdefs.Unavailable), status.translated():
        raise ConnectionRefusedError(111, "refused")
    with pytest.raises(errdefs.NotFound, match="gone"), status.translated():
        raise GRPCError(Status.NOT_FOUND, "gone")


def test_named_errors() -> None:
    assert type(codes.error_named("DataLoss", "x")) is errdefs.DataLoss
    assert type(codes.error_named("SystemExit", "x")) is errdefs.Error
    assert type(codes.error_named("", "x")) is errdefs.Error
