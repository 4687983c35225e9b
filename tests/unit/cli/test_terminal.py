"""Detach keys, raw mode, attached streams without an engine."""

import os
import pty
import socket
import termios
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.cli.errors import CommandError
from rorqual.cli.starting import proxied_signals, start_exit_code
from rorqual.cli.streams import Detached, Signals, Streamer
from rorqual.cli.terminal import DetachFilter, RawMode, parse_detach_keys

KEYS = b"\x10\x11"


def test_detach_keys_are_read() -> None:
    assert parse_detach_keys("") == KEYS
    assert parse_detach_keys("ctrl-a,x,ctrl-[,DEL") == b"\x01x\x1b\x7f"
    with pytest.raises(CommandError, match="invalid detach keys"):
        parse_detach_keys("ctrl-1")


@given(st.lists(st.sampled_from([b"a", b"\x10", b"bc"]), max_size=12))
def test_what_is_no_detach_sequence_passes_whole(pieces: list[bytes]) -> None:
    keys = DetachFilter(KEYS)
    out = b""
    for piece in pieces:
        passed, detached = keys.feed(piece)
        assert not detached
        out += passed
    passed, _ = keys.feed(b"z")
    assert out + passed == b"".join(pieces) + b"z"


def test_the_sequence_detaches_across_reads_and_what_came_before_passes() -> None:
    keys = DetachFilter(KEYS)
    assert keys.feed(b"ab\x10") == (b"ab", False)
    assert keys.feed(b"\x11rest") == (b"", True)


def test_raw_mode_is_undone() -> None:
    controller, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    with RawMode(terminal):
        assert not termios.tcgetattr(terminal)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    assert termios.tcgetattr(terminal) == before
    os.close(controller)
    os.close(terminal)


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def read_all(fd: int) -> bytes:
    out = b""
    while piece := os.read(fd, 65536):
        out += piece
    return out


def test_streams_are_told_apart_and_stdin_is_half_closed() -> None:
    ours, theirs = socket.socketpair()
    stdin_read, stdin_write = os.pipe()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    os.write(stdin_write, b"typed")
    os.close(stdin_write)

    def engine() -> None:
        got = b""
        while piece := theirs.recv(100):
            got += piece
        theirs.sendall(frame(2, got) + frame(1, b"two"))
        theirs.close()

    thread = threading.Thread(target=engine)
    thread.start()
    Streamer(ours, frame(1, b"one"), tty=False, stdin=stdin_read, stdout=out_write, stderr=err_write).run()
    thread.join()
    os.close(out_write)
    os.close(err_write)
    assert read_all(out_read) == b"onetwo"
    assert read_all(err_read) == b"typed"
    for fd in (stdin_read, out_read, err_read):
        os.close(fd)


def test_detach_keys_end_the_streams_and_restore_the_terminal() -> None:
    ours, theirs = socket.socketpair()
    controller, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    streamer = Streamer(ours, b"", tty=True, stdin=terminal, stdout=-1)

    def person() -> None:
        # Before the terminal is raw, its line discipline would eat Ctrl-Q.
        while termios.tcgetattr(terminal)[3] & termios.ICANON:
            time.sleep(0.001)
        os.write(controller, b"\x10\x11")

    typing = threading.Thread(target=person)
    typing.start()
    with pytest.raises(Detached, match="read escape sequence"):
        streamer.run()
    typing.join()
    assert termios.tcgetattr(terminal) == before
    theirs.close()
    os.close(controller)
    os.close(terminal)


def test_signals_reach_the_loop_and_handlers_come_back() -> None:
    import signal

    before = signal.getsignal(signal.SIGUSR1)
    got: list[int] = []
    ours, theirs = socket.socketpair()
    with Signals((signal.SIGUSR1,)) as signals:
        streamer = Streamer(ours, b"", tty=False)
        streamer.signals = signals

        def on_signal(number: int) -> None:
            got.append(number)
            theirs.close()

        streamer.on_signal = on_signal
        os.kill(os.getpid(), signal.SIGUSR1)
        streamer.run()
    assert got == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) == before


def test_exit_codes_of_what_cannot_start() -> None:
    assert start_exit_code('exec: "x": executable file not found in $PATH') == 127
    assert start_exit_code("exec /etc: permission denied") == 126
    assert start_exit_code("port is already allocated") == 125


def test_signals_that_are_passed_on() -> None:
    import signal

    numbers = proxied_signals()
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT} <= set(numbers)
    assert not {signal.SIGCHLD, signal.SIGPIPE, signal.SIGKILL, signal.SIGURG} & set(numbers)
