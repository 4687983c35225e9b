"""A start is whole or nothing, whenever it is given up."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from rorqual.daemon.services.containers.start import Starter
from rorqual.daemon.services.containers.state import State


class Fakes:
    """Everything that a start calls; `saving` is how its state is saved."""

    def __init__(self) -> None:
        self.undone: list[str] = []
        self.saving: Any = self._saved

    async def _saved(self, container: Any) -> None:
        return None

    def undo(self, what: str) -> Any:
        async def undo(*_: Any) -> None:
            self.undone.append(what)

        return undo

    def starter(self) -> Starter:
        async def save_state(container: Any) -> None:
            await self.saving(container)

        class OnlyTheEnd(Starter):
            async def _run(self, container: Any) -> None:
                await self.started(container, 42, 1)

        return OnlyTheEnd(
            SimpleNamespace(save_state=save_state),  # type: ignore[arg-type]
            SimpleNamespace(delete=self.undo("record")),  # type: ignore[arg-type]
            SimpleNamespace(destroy=self.undo("task")),  # type: ignore[arg-type]
            SimpleNamespace(),  # type: ignore[arg-type]
            SimpleNamespace(release=self.undo("network")),  # type: ignore[arg-type]
            SimpleNamespace(),  # type: ignore[arg-type]
            SimpleNamespace(),  # type: ignore[arg-type]
            SimpleNamespace(detach=self.undo("volumes"), started=lambda _: None),  # type: ignore[arg-type]
            SimpleNamespace(publish=lambda *_: None),  # type: ignore[arg-type]
            SimpleNamespace(),  # type: ignore[arg-type]
        )


def container() -> Any:
    return SimpleNamespace(
        id="c",
        state=State(),
        config=SimpleNamespace(healthcheck=None),
        host=SimpleNamespace(auto_remove=False),
        wake_exit=lambda: None,
        event_attributes=dict,
    )


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_one_that_ends_once_its_process_runs_is_not_found_running(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is taken away again, so nobody would ever tell of its end."""
    monkeypatch.setattr("rorqual.daemon.services.containers.attach.drop", lambda _: None)
    fakes, one = Fakes(), container()
    reached = asyncio.Event()

    async def saving(container: Any) -> None:
        if not reached.is_set():
            reached.set()
            if how == "failed":
                raise OSError("disk full")
            await asyncio.sleep(60)

    fakes.saving = saving
    task = asyncio.create_task(fakes.starter().run(one))
    await reached.wait()
    if how == "cancelled":
        task.cancel()
    with pytest.raises((asyncio.CancelledError, OSError)):
        await task
    assert fakes.undone == ["task", "record", "network", "volumes"]
    assert (one.state.status, one.state.pid, one.state.exit_code) == ("exited", 0, 128) and one.state.finished_ns
