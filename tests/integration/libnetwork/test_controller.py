"""A controller that cannot start says why, and can be stopped."""

from collections.abc import Callable
from typing import Any

import pytest

from rorqual.libnetwork.controller import Controller
from rorqual.libnetwork.model import ControllerOptions

pytestmark = pytest.mark.root


def test_a_failed_start_reports_its_own_error_and_stop_after_it_none(lab: Callable[[Any], None]) -> None:
    async def body(place: Any) -> None:
        place.run(None, "ip link add rorqual0 type veth")  # the bridge's name, and no bridge
        controller = Controller(place.db, place.exec_root, ControllerOptions())
        for _ in range(2):
            with pytest.raises(Exception, match="interface rorqual0 exists and is not a bridge"):
                await controller.start()
        await controller.stop()
        await controller.stop()

    lab(body)
