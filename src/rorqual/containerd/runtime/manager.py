"""All tasks: create, act on, watch, delete, find again. Publishes the task events.

Shims outlive this process. At start `recover` connects to each bundle's shim.sock; a bundle without a living shim is
the shim's death noticed late, and takes the same path as one noticed at once: `_lost`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from rorqual.containerd.events import Exchange
from rorqual.containerd.identifiers import check_identifier
from rorqual.containerd.runtime import shims
from rorqual.containerd.runtime.bundle import Bundle
from rorqual.containerd.runtime.leftovers import clean_up
from rorqual.containerd.runtime.spawner import Spawner
from rorqual.containerd.runtime.task import Process, Task
from rorqual.errdefs import AlreadyExists, Conflict, Error, NotFound, Unavailable
from rorqual.rpc import taskapi, ttrpcclient
from rorqual.rpc.proto import mount_pb2
from rorqual.rpc.proto import task_events_pb2 as events

log = logging.getLogger(__name__)

_KILLED = 137  # exit status of a process whose end nobody saw: SIGKILL's
_KILL_TIMEOUT_S = 5.0  # from SIGKILL to the exit
_SETTLE_S = 0.25  # a process that ended may have output that nobody has closed yet: do not wait for that


class TaskManager:
    """Use `run` for background work: its owner awaits `serve`."""

    def __init__(self, state: str, spawner: Spawner, exchange: Exchange) -> None:
        self._state = state
        self._spawner = spawner
        self._exchange = exchange
        self._tasks: dict[tuple[str, str], Task] = {}
        self._background: set[asyncio.Task[None]] = set()
        os.makedirs(f"{state}/tasks", mode=0o700, exist_ok=True)

    # ---- finding ----

    def get(self, ns: str, container_id: str) -> Task:
        """Raises NotFound."""
        task = self._tasks.get((ns, container_id))
        if task is None or "" not in task.processes:
            raise NotFound(f"task {container_id} not found: not found")
        return task

    def all(self, ns: str) -> list[Task]:
        """All of a namespace."""
        return [t for (task_ns, _id), t in self._tasks.items() if task_ns == ns and "" in t.processes]

    def process(self, ns: str, container_id: str, exec_id: str) -> tuple[Task, Process]:
        """Raises NotFound."""
        task = self.get(ns, container_id)
        process = task.processes.get(exec_id)
        if process is None:
            raise NotFound(f"process {exec_id}: not found")
        return task, process

    async def settle(self, task: Task, process: Process) -> None:
        """Return when an end of the process that the shim has told, or is telling, is recorded here.

        A client that saw its stream's end asks at once for the exit status. The shim answers a Wait before it closes
        the client's stream, and answers on one connection in order; so one question is enough.
        """
        if process.exited.is_set() or task.shim is None or (process.status == taskapi.CREATED and not process.exec_id):
            return
        with suppress(Error, TimeoutError):
            state = await shims.state_of(task.shim, task.id, process.exec_id)
            if state is not None and state.status == taskapi.STOPPED:
                async with asyncio.timeout(_SETTLE_S):
                    await process.exited.wait()

    # ---- lifecycle ----

    async def create(self, ns: str, spec: bytes, request: taskapi.CreateTaskRequest) -> int:
        """Init's pid. Raises AlreadyExists and what the shim says; then nothing is left."""
        check_identifier(request.id, "container.ID")
        key = (ns, request.id)
        if key in self._tasks:
            raise AlreadyExists(f"task {request.id}: already exists")
        bundle = Bundle(ns, request.id, f"{self._state}/tasks/{ns}/{request.id}")
        task = self._tasks[key] = Task(ns, request.id, bundle)
        creation = asyncio.create_task(self._create(task, spec, request))
        try:
            return await asyncio.shield(creation)
        except asyncio.CancelledError:
            self.run(self._abandon(task, creation))  # the caller is gone: so shall be what it asked for
            raise

    async def _create(self, task: Task, spec: bytes, request: taskapi.CreateTaskRequest) -> int:
        async with task.lock:
            try:
                task.bundle.create(spec)
                try:
                    request.bundle = task.bundle.path
                    created = await self._spawn_and_create(task, request)
                except BaseException:
                    await self._undo_create(task)
                    raise
            except BaseException:
                del self._tasks[task.ns, task.id]
                raise
            init = Process("", request.stdin, request.stdout, request.stderr, request.terminal, created.pid)
            task.processes[""] = init
            self._publish(
                task,
                "/tasks/create",
                events.TaskCreate(
                    container_id=task.id,
                    bundle=task.bundle.path,
                    rootfs=[
                        mount_pb2.Mount(type=m.type, source=m.source, target=m.target, options=m.options)
                        for m in request.rootfs
                    ],
                    io=events.TaskIO(stdin=init.stdin, stdout=init.stdout, stderr=init.stderr, terminal=init.terminal),
                    pid=init.pid,
                ),
            )
            self._adopt(task)
            return created.pid

    async def _spawn_and_create(self, task: Task, request: taskapi.CreateTaskRequest) -> taskapi.CreateTaskResponse:
        for last in (False, True):
            task.shim = ttrpcclient.Client(await self._spawner.spawn(task.ns, task.id, task.bundle.path))
            try:
                return await task.shim.call("Create", request, taskapi.CreateTaskResponse)
            except Unavailable:
                # a spawner that was killed between taking the request and forking: ask its successor, once
                if last or task.bundle.shim_pid():
                    raise
                task.shim.close()
        raise AssertionError("not reached")

    async def _undo_create(self, task: Task) -> None:
        """A shim without a task ends when its first connection is closed."""
        if task.shim is not None:
            pid = task.bundle.shim_pid()
            task.shim.close()
            task.shim = None
            if pid:
                await shims.wait_gone(pid)
                await self._clean_up(task)  # a shim that was killed in the middle has left its container half made
        await asyncio.to_thread(task.bundle.remove)

    async def _abandon(self, task: Task, creation: asyncio.Task[int]) -> None:
        try:
            await creation
            await self.kill(task, "", signal.SIGKILL, everyone=True)
            await asyncio.wait_for(task.init.exited.wait(), _KILL_TIMEOUT_S)
            await self.delete(task.ns, task.id)
        except (Error, TimeoutError) as e:
            log.info("task %s of a caller that went away: %s", task.id, e)

    async def start(self, task: Task, process: Process) -> int:
        """The pid. Raises what the shim says."""
        async with process.lock:
            request = taskapi.StartRequest(task.id, process.exec_id)
            try:
                started = await task.connection().call("Start", request, taskapi.StartResponse)
            except Error:
                if process.exec_id and process.status == taskapi.CREATED:
                    self._forget_exec(task, process)  # the shim has dropped it
                raise
            process.pid = started.pid
            if process.status == taskapi.CREATED:
                process.status = taskapi.RUNNING
            if process.exec_id:
                self._publish(
                    task,
                    "/tasks/exec-started",
                    events.TaskExecStarted(container_id=task.id, exec_id=process.exec_id, pid=started.pid),
                )
                self._watch(task, process)
            else:
                self._publish(task, "/tasks/start", events.TaskStart(container_id=task.id, pid=started.pid))
            return started.pid

    async def exec(self, ns: str, request: taskapi.ExecProcessRequest) -> None:
        """Add a process. Raises AlreadyExists and what the shim says."""
        task = self.get(ns, request.id)
        exec_id = check_identifier(request.exec_id, "exec id")
        if exec_id in task.processes:
            raise AlreadyExists(f"process {exec_id}: already exists")
        process = Process(exec_id, request.stdin, request.stdout, request.stderr, request.terminal)
        task.processes[exec_id] = process
        try:
            task.bundle.mark_exec(
                exec_id
            )  # first: the next containerd must look for it, whether the shim has it or not
            await task.connection().call("Exec", request, taskapi.Empty)
        except BaseException:
            self._forget_exec(task, process)
            raise
        self._publish(task, "/tasks/exec-added", events.TaskExecAdded(container_id=task.id, exec_id=exec_id))

    async def delete(self, ns: str, container_id: str) -> Process:
        """How init ended; the bundle is gone and the shim ends. Raises NotFound, Conflict while it runs."""
        task = self.get(ns, container_id)
        async with task.lock:
            if self._tasks.get((ns, container_id)) is not task:
                raise NotFound(f"task {container_id} not found: not found")
            init = task.init
            if init.status not in (taskapi.STOPPED, taskapi.CREATED):
                raise Conflict(f"task must be stopped before deletion: {_NAMES[init.status]}: failed precondition")
            task.deleting = True
            try:
                await self._delete_process(task, init)
            except BaseException:
                task.deleting = False
                raise
            for process in list(task.processes.values()):
                self._exited(task, process, process.exit_status or _KILLED, process.exited_at_ns or time.time_ns())
            await self._retire(task)
            del self._tasks[ns, container_id]
        self._publish(task, "/tasks/delete", _deleted(task, init))
        return init

    async def delete_process(self, ns: str, container_id: str, exec_id: str) -> Process:
        """How the exec ended. Raises NotFound, Conflict while it runs."""
        if not exec_id:
            raise NotFound("exec id must not be empty: not found")
        task, process = self.process(ns, container_id, exec_id)
        await self._delete_process(task, process)
        self._forget_exec(task, process)
        self._publish(task, "/tasks/delete", _deleted(task, process))
        return process

    async def _delete_process(self, task: Task, process: Process) -> None:
        """At the shim, if there is one; the process's end is recorded and told before the deletion is."""
        if task.shim is None:
            return
        request = taskapi.DeleteRequest(task.id, process.exec_id)
        try:
            end = await task.shim.call("Delete", request, taskapi.DeleteResponse)
        except Unavailable:
            if task.shim is None:
                return  # it died meanwhile, and _lost has recorded the end
            await self._lost(task)
            return
        self._exited(task, process, end.exit_status, end.exited_at.to_ns() if end.exited_at else 0)

    async def _retire(self, task: Task) -> None:
        """End the shim and remove the bundle: the id may be used again at once."""
        for process in task.processes.values():
            if process.watcher is not None:
                process.watcher.cancel()
        shim, task.shim = task.shim, None
        if shim is not None:
            pid = task.bundle.shim_pid()
            with suppress(Error):
                await shim.call("Shutdown", taskapi.ShutdownRequest(task.id, now=True), taskapi.Empty, timeout_s=5)
            shim.close()
            self.run(shims.wait_gone(pid))
        try:
            task.bundle.remove()
        except OSError as e:
            log.warning("bundle %s: %s", task.bundle.path, e)

    # ---- acting on a running task ----

    async def kill(self, task: Task, exec_id: str, signum: int, *, everyone: bool) -> None:
        """Raises NotFound when the process has ended."""
        if task.shim is None:
            raise NotFound("process already finished: not found")
        await task.shim.call("Kill", taskapi.KillRequest(task.id, exec_id, signum, everyone), taskapi.Empty)

    async def pause(self, task: Task) -> None:
        """Freeze it."""
        await task.connection().call("Pause", taskapi.PauseRequest(task.id), taskapi.Empty)
        if task.init.status == taskapi.RUNNING:
            task.init.status = taskapi.PAUSED
        self._publish(task, "/tasks/paused", events.TaskPaused(container_id=task.id))

    async def resume(self, task: Task) -> None:
        """Thaw it."""
        await task.connection().call("Resume", taskapi.ResumeRequest(task.id), taskapi.Empty)
        if task.init.status == taskapi.PAUSED:
            task.init.status = taskapi.RUNNING
        self._publish(task, "/tasks/resumed", events.TaskResumed(container_id=task.id))

    # ---- watching ----

    def _adopt(self, task: Task) -> None:
        """Watch a task's connection and its init."""
        shim = task.connection()
        shim.closed.add_done_callback(lambda _f: self._connection_lost(task, shim))
        self._watch(task, task.init)

    def _watch(self, task: Task, process: Process) -> None:
        process.watcher = self.run(self._wait(task, process))

    async def _wait(self, task: Task, process: Process) -> None:
        request = taskapi.WaitRequest(task.id, process.exec_id)
        try:
            end = await task.connection().call("Wait", request, taskapi.WaitResponse)
        except Unavailable:
            return  # the connection's own watcher acts
        except Error as e:
            log.warning("task %s %s: wait: %s", task.id, process.exec_id, e)
            return
        async with process.lock:
            self._exited(task, process, end.exit_status, end.exited_at.to_ns() if end.exited_at else 0)

    def _exited(self, task: Task, process: Process, status: int, at_ns: int) -> None:
        """Record and tell a process's end, once."""
        if process.exited.is_set():
            return
        process.status = taskapi.STOPPED
        process.exit_status = status
        process.exited_at_ns = at_ns or time.time_ns()
        process.exited.set()
        event = events.TaskExit(
            container_id=task.id, id=process.exec_id or task.id, pid=process.pid, exit_status=status
        )
        event.exited_at.FromNanoseconds(process.exited_at_ns)
        self._publish(task, "/tasks/exit", event)

    def _connection_lost(self, task: Task, shim: ttrpcclient.Client) -> None:
        if not task.deleting and task.shim is shim:
            self.run(self._lost(task))

    async def _lost(self, task: Task) -> None:
        """The connection to a shim is gone: connect again, or clean up after the dead."""
        old, task.shim = task.shim, None
        if old is not None:
            old.close()
        if await self._reconnect(task):
            return
        log.warning("shim of %s/%s is dead: cleaning up", task.ns, task.id)
        await shims.wait_gone(task.bundle.shim_pid())
        await self._clean_up(task)
        record = task.bundle.exit_record()
        now = time.time_ns()
        for process in list(task.processes.values()):
            if not process.exec_id and record is not None:
                self._exited(task, process, record.status, record.exited_at_ns)
            else:
                self._exited(task, process, _KILLED, now)

    async def _clean_up(self, task: Task) -> None:
        await asyncio.to_thread(clean_up, task.bundle, f"{self._state}/runc/{task.ns}/{task.id}")

    async def _reconnect(self, task: Task) -> bool:
        """Whether the shim answers on its socket; then everything of the task is watched again."""
        sock = await shims.dial(task.bundle)
        if sock is None:
            return False
        shim = ttrpcclient.Client(sock)
        try:
            found = [await shims.state_of(shim, task.id, exec_id) for exec_id in ("", *task.bundle.execs())]
        except Error as e:
            log.warning("shim of %s/%s: %s", task.ns, task.id, e)
            shim.close()
            return False
        task.shim = shim
        for state in found:
            if state is not None:
                self._remember(task, state)
        if "" not in task.processes:
            return True  # containerd was killed before Create had finished: recover ends such a shim
        shim.closed.add_done_callback(lambda _f: self._connection_lost(task, shim))
        for process in task.processes.values():
            if not process.exited.is_set() and (not process.exec_id or process.status != taskapi.CREATED):
                self._watch(task, process)
        return True

    def _remember(self, task: Task, state: taskapi.StateResponse) -> None:
        process = task.processes.get(state.exec_id)
        if process is None:
            process = Process(state.exec_id, state.stdin, state.stdout, state.stderr, state.terminal)
            task.processes[state.exec_id] = process
        process.pid = state.pid
        # An end is told by Wait, when the last output was read.
        process.status = taskapi.RUNNING if state.status == taskapi.STOPPED else state.status

    # ---- restart ----

    async def recover(self) -> None:
        """Find the tasks of the containerd before this one. Returns when all are known."""
        root = f"{self._state}/tasks"
        found = [(ns, name) for ns in os.listdir(root) for name in os.listdir(f"{root}/{ns}")]
        await asyncio.gather(*(self._recover_one(Bundle(ns, name, f"{root}/{ns}/{name}")) for ns, name in found))

    async def _recover_one(self, bundle: Bundle) -> None:
        task = Task(bundle.ns, bundle.id, bundle)
        if not await self._reconnect(task):
            record = bundle.exit_record()
            if bundle.shim_pid() == 0 and record is None:
                await asyncio.to_thread(bundle.remove)  # no shim ever began
                return
            task.processes[""] = Process("", pid=record.pid if record else 0, status=taskapi.RUNNING)
            self._tasks[task.ns, task.id] = task
            await self._lost(task)
            return
        if "" in task.processes:
            self._tasks[task.ns, task.id] = task
            return
        await self._retire(task)

    # ---- plumbing ----

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Background work that `close` ends; a failure is logged."""
        job = asyncio.create_task(work)
        self._background.add(job)
        job.add_done_callback(self._finished)
        return job

    def _finished(self, job: asyncio.Task[None]) -> None:
        self._background.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("task manager: %s", error, exc_info=error)

    async def close(self) -> None:
        """Let go of all shims; they go on."""
        for task in self._tasks.values():
            task.deleting = True
        jobs: Sequence[asyncio.Task[None]] = list(self._background)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        for task in self._tasks.values():
            if task.shim is not None:
                task.shim.close()

    def _forget_exec(self, task: Task, process: Process) -> None:
        if process.watcher is not None:
            process.watcher.cancel()
        if task.processes.get(process.exec_id) is process:
            del task.processes[process.exec_id]
        task.bundle.unmark_exec(process.exec_id)

    def _publish(self, task: Task, topic: str, event: Any) -> None:
        self._exchange.publish(task.ns, topic, event)


_NAMES = ("unknown", "created", "running", "stopped", "paused", "pausing")


def _deleted(task: Task, process: Process) -> events.TaskDelete:
    event = events.TaskDelete(
        container_id=task.id, pid=process.pid, exit_status=process.exit_status, id=process.exec_id
    )
    event.exited_at.FromNanoseconds(process.exited_at_ns)
    return event
