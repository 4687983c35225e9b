"""rorqual.services.check.v1: the whole store checked. Findings are JSON texts in google.protobuf.StringValue.

Not containerd's: its clients do not know it, and none of theirs is changed by it.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue
from grpclib.const import Cardinality, Handler

from rorqual.containerd.check import Checker
from rorqual.containerd.services.calls import receive

PATH = "/rorqual.services.check.v1.Check/Run"


class CheckService:
    """One check a call; a second one at the same time is fine."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    def __mapping__(self) -> dict[str, Handler]:
        return {PATH: Handler(self.Run, Cardinality.UNARY_STREAM, Empty, StringValue)}

    async def Run(self, stream: Any) -> None:
        await receive(stream)
        async for finding in self._checker.run():
            told = {"kind": finding.kind, "subject": finding.subject, "problem": finding.problem, "size": finding.size}
            await stream.send_message(StringValue(value=json.dumps(told)))
