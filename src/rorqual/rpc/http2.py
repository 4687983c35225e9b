"""hyper-h2's settings, for either end of a gRPC connection."""

from h2.connection import H2Connection

# A frame for an ended stream is answered by the memory of it; frames come that late for streams just ended only.
_ENDED_STREAMS_MAX = 1024


def bound_ended_streams() -> None:
    """Every connection that this process makes keeps 1,024 ended streams in mind, not 65,536: 10 MB."""
    H2Connection.MAX_CLOSED_STREAMS = _ENDED_STREAMS_MAX
