"""What protects the host from what reaches a shim, and every process from calls that are given up."""

from mutation.mutations import mutation

_ENGINE = "tests/integration/test_security.py::"
_ABORTED = "tests/integration/test_aborted_calls.py::"
_DUMPABLE = (
    "runc/process/child.py",
    "    profiles = _open_labels(plan)\n    process.prctl(process.PR_SET_DUMPABLE, 0)\n",
    "    profiles = _open_labels(plan)\n",
)
_LEFT_OPEN = (
    "shim/stdio.py",
    "            self._hub.loop.remove(fd)\n            os.close(fd)\n        self._pending.clear()\n",
    "            self._hub.loop.remove(fd)\n        self._pending.clear()\n",
)

MUTATIONS = (
    mutation(
        "the second start of what enters containers, sealed",
        _ENGINE + "test_cve_2019_5736_the_hosts_interpreter_cannot_be_written_through_proc",
        ("shim/spawner.py", "    reexec_sealed(shared=True)\n", ""),
    ),
    mutation(
        "not dumpable before the namespaces are joined",
        _ENGINE + "test_processes_of_a_container_are_not_dumpable_before_exec",
        _DUMPABLE,
        ("shim/spawner.py", "    linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)\n", ""),
    ),
    mutation(
        "sockets are files, not abstract names",
        _ENGINE + "test_cve_2020_15257_no_abstract_socket_of_the_engine_is_reachable",
        (
            "rpc/unixsock.py",
            "        old = os.umask(0o777 & ~mode)\n",
            "        abstract = socket.socket(socket.AF_UNIX, kind)\n"
            '        abstract.bind(f"\\0{path}")\n'
            "        os.set_inheritable(abstract.detach(), False)\n"
            "        old = os.umask(0o777 & ~mode)\n",
        ),
    ),
    mutation(
        "the peer's user is asked of the kernel",
        _ENGINE + "test_masquerading_as_root_on_the_stream_socket_is_refused",
        (
            "shim/streamserver.py",
            "        if _PEERCRED.unpack(credentials)[1] != os.geteuid():\n",
            "        if not credentials:\n",
        ),
    ),
    mutation(
        "reading of leftovers ends",
        "tests/unit/shim/test_stdio.py::test_what_a_process_leaves_behind_cannot_keep_the_shim_reading",
        ("shim/stdio.py", "                left -= size\n", "                left -= 0\n"),
    ),
    mutation(
        "reading of leftovers ends",
        "tests/unit/shim/test_health.py::test_what_a_probe_leaves_behind_cannot_keep_the_shim_reading",
        (
            "shim/health.py",
            "            while len(self._output) <= OUTPUT_MAX and self._read():\n",
            "            while self._read():\n",
        ),
    ),
    mutation(
        "the connection of a client that has gone is closed",
        _ABORTED + "test_ten_thousand_aborted_attaches",
        _LEFT_OPEN,
    ),
    mutation(
        "the connection of a client that has gone is closed",
        _ABORTED + "test_a_thousand_aborted_execs",
        _LEFT_OPEN,
    ),
    mutation(
        "a cancelled call is released",
        "tests/unit/rpc/test_grpcserver.py::test_a_call_given_up_at_any_moment_leaves_nothing",
        (
            "rpc/grpcserver.py",
            "        self._handler.cancel(stream)\n        self._once(stream)\n",
            "        self._handler.cancel(stream)\n",
        ),
    ),
)
