"""`rorqual compose wait`."""

from __future__ import annotations

import queue
import threading

from rorqual import errdefs
from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.commands.compose import down, loading
from rorqual.cli.flags import Values
from rorqual.compose import observe
from rorqual.compose.observe import Seen


def run(context: Context, flags: Values, args: list[str]) -> int:
    of = loading.known(context)
    loading.check_services(of, args)
    found = observe.containers(context.client, of.name, services=args)
    if not found:
        raise errdefs.NotFound(f"no containers for project {of.name!r}".replace("'", '"'))
    ended: queue.Queue[tuple[Seen, int | errdefs.Error]] = queue.Queue()

    def wait(seen: Seen) -> None:
        try:
            ended.put((seen, int(context.connect(context).containers.wait(seen.id)["StatusCode"])))
        except errdefs.Error as e:
            ended.put((seen, e))

    for seen in found:
        threading.Thread(target=wait, args=(seen,), daemon=True).start()
    code = 0
    for _ in found:
        seen, result = ended.get()
        if isinstance(result, errdefs.Error):
            raise result
        context.out(f'container "{seen.name}" exited with status code {result}')
        code = result
        if flags.boolean("down-project"):
            down.take_down(context, of, [])
            break
    return code


COMMAND = Command(
    "SERVICE [SERVICE...] [OPTIONS]",
    "Block until containers of all (or specified) services stop.",
    run,
    flags=(("down-project", "", "bool", False, "Drops project when the first container stops"),),
    args=AT_LEAST_ONE,
)
