"""The event exchange."""

import pytest

from rorqual import errdefs
from rorqual.containerd import events
from rorqual.containerd.events import Exchange
from rorqual.rpc.proto.envelope_pb2 import Envelope
from rorqual.rpc.proto.task_events_pb2 import TaskExit, TaskStart


async def test_a_subscriber_gets_what_its_filters_match() -> None:
    exchange = Exchange()
    subscription = exchange.subscribe(['namespace==moby,topic~=^/tasks/,event.container_id=="c1"'])
    exchange.publish("default", "/tasks/exit", TaskExit(container_id="c1"))
    exchange.publish("moby", "/tasks/exit", TaskExit(container_id="c2"))
    exchange.publish("moby", "/tasks/exit", TaskExit(container_id="c1", exit_status=3))
    envelope = await subscription.next()
    assert envelope.event.type_url == "containerd.events.TaskExit"
    assert TaskExit.FromString(envelope.event.value).exit_status == 3


async def test_events_keep_their_order() -> None:
    exchange = Exchange()
    subscription = exchange.subscribe([])
    for pid in range(100):
        exchange.publish("n", "/tasks/start", TaskStart(pid=pid))
    got = [TaskStart.FromString((await subscription.next()).event.value).pid for _ in range(100)]
    assert got == list(range(100))


async def test_a_subscriber_too_far_behind_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_BACKLOG_MAX", 10)
    exchange = Exchange()
    subscription = exchange.subscribe([])
    for _ in range(30):
        exchange.publish("n", "/tasks/start", TaskStart())
    with pytest.raises(errdefs.ResourceExhausted):
        for _ in range(30):
            await subscription.next()
    assert not exchange._subscriptions


@pytest.mark.parametrize(
    "envelope", [Envelope(), Envelope(namespace="n", topic="x"), Envelope(namespace="n", topic="/x")]
)
def test_an_incomplete_forwarded_event_is_refused(envelope: Envelope) -> None:
    with pytest.raises(errdefs.InvalidArgument):
        Exchange().forward(envelope)
