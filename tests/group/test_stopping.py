"""Signals, stop() and the death of the parent end all workers, in order if there is time."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mioloop.group import LoopGroup, WorkerFailed, supervisor
from tests.group import mains
from tests.support.groups import WAIT_S, Program, ask, connect, program, running

pytestmark = pytest.mark.slow

SCRIPT = """\
import asyncio, functools, os, sys, mioloop

async def handle(reader, writer):
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    finally:
        print("closed", flush=True)
        writer.close()

async def main(started, worker):
    sock = worker.listen("127.0.0.1", 0)
    await asyncio.start_server(handle, sock=sock)
    await started.put((sock.getsockname()[1], os.getpid()))
    try:
        await asyncio.Event().wait()
    finally:
        print("main ended", flush=True)

async def tell(started):
    for _ in range(2):
        print(*await started.get(), flush=True)

if __name__ == "__main__":
    kind, grace = sys.argv[1:]
    with mioloop.LoopGroup(workers=2, kind=kind, grace=float(grace)) as group:
        import threading
        started = group.channel()
        threading.Thread(target=asyncio.run, args=(tell(started),)).start()
        print(group.run(functools.partial(main, started)))
"""

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@contextlib.contextmanager
def server(tmp_path: Path, kind: str, grace: float) -> Iterator[tuple[Program, int, set[int]]]:
    """The program, the port, and the processes of its workers."""
    path = tmp_path / "server.py"
    path.write_text(SCRIPT)
    with program(path, kind, str(grace)) as run:
        one, other = run.line().split(), run.line().split()
        assert one[0] == other[0]
        yield run, int(one[0]), {int(one[1]), int(other[1])}


def until_refused(port: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            connect(port).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue
        time.sleep(0.005)
    raise AssertionError("the port is still open")


def open_connection(port: int) -> socket.socket:
    sock = connect(port)
    sock.sendall(b"one\n")
    assert sock.recv(100) == b"one\n"
    return sock


@pytest.mark.parametrize("number", SIGNALS)
def test_open_connections_finish_after_a_signal(
    tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    with server(tmp_path, kind, 60) as (run, port, _):
        with open_connection(port) as sock:
            run.send(number)
            until_refused(port)
            sock.sendall(b"two\n")
            assert sock.recv(100) == b"two\n"
            assert run.process.poll() is None
        status, out, err = run.ended()
    assert status == 0
    assert out.splitlines()[-1] == "[None, None]" and out.count("main ended") == 2
    head, *rows, ratio = err.splitlines()
    assert head.split() == ["worker", "accepted", "received", "sent", "busy"]
    assert [row.split()[0] for row in rows] == ["0", "1"]
    accepted = [int(row.split()[1]) for row in rows]
    assert sum(accepted) >= 1
    assert ratio.startswith("accepted, most to least: ")


def test_connections_are_aborted_when_the_grace_is_over(tmp_path: Path, kind: str) -> None:
    with server(tmp_path, kind, 0.2) as (run, port, _):
        with open_connection(port) as sock:
            run.send(signal.SIGTERM)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(100) == b""
        status, out, _ = run.ended()
    assert status == 0
    assert sorted(out.splitlines()) == ["[None, None]", "closed", "main ended", "main ended"]


def test_a_second_signal_aborts_at_once(tmp_path: Path, kind: str) -> None:
    with server(tmp_path, kind, 3600) as (run, port, _):
        with open_connection(port) as sock:
            run.send(signal.SIGINT)
            until_refused(port)
            run.send(signal.SIGINT)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(100) == b""
        status, out, _ = run.ended()
    assert status == 0 and out.count("main ended") == 2


def test_ctrl_c_at_a_terminal_reaches_the_workers_by_the_parent_only(tmp_path: Path) -> None:
    """The terminal sends SIGINT to the whole process group."""
    with server(tmp_path, "process", 60) as (run, port, _):
        with open_connection(port) as sock:
            os.killpg(run.process.pid, signal.SIGINT)
            until_refused(port)
            sock.sendall(b"two\n")
            assert sock.recv(100) == b"two\n"
        status, _, err = run.ended()
    assert status == 0 and "Traceback" not in err


def test_workers_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    with server(tmp_path, "process", 60) as (run, port, workers):
        with open_connection(port) as sock:
            run.send(signal.SIGKILL)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(100) == b""
        deadline = time.monotonic() + WAIT_S
        while any(map(is_alive, workers)):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_blocked_worker_ends_when_the_parent_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "blocked.py"
    path.write_text(
        "import os, time, mioloop\n"
        "async def main(worker):\n    print(os.getpid(), flush=True)\n    time.sleep(3600)\n"
        "if __name__ == '__main__':\n"
        "    with mioloop.LoopGroup(workers=1, kind='process') as group: group.run(main)\n"
    )
    with program(path) as run:
        worker = int(run.line())
        run.send(signal.SIGKILL)
        deadline = time.monotonic() + WAIT_S
        while is_alive(worker):
            assert time.monotonic() < deadline
            time.sleep(0.01)


# -- in this process -------------------------------------------------------------------------------


def test_stop_lets_a_main_that_waits_for_it_end_by_itself(kind: str) -> None:
    with running(mains.wait_for_stop, kind=kind) as run:
        run.call(0, mains.pid)
        run.call(1, mains.pid)
        run.group.stop()
        assert run.end() == ["0 has seen it", "1 has seen it"]


def test_stop_cancels_any_other_main(kind: str) -> None:
    with running(mains.serve, kind=kind) as run:
        port = run.port()
        assert ask(port) in (0, 1)
        run.group.stop()
        assert run.end() == [None, None]
        with pytest.raises(ConnectionRefusedError):
            connect(port)


def test_stop_before_the_workers_have_started(kind: str) -> None:
    for _ in range(3):
        with running(mains.idle, kind=kind) as run:
            while run.group._supervisor is None:
                time.sleep(0.001)
            run.group.stop()
            run.end()


def test_a_worker_that_wants_to_listen_too_late_does_not_fail_the_group(kind: str) -> None:
    with running(mains.listen_late, workers=1, kind=kind) as run:
        run.call(0, mains.pid)
        run.group.stop()
        assert run.end() == [None]


def test_on_stop_callbacks_are_called(kind: str) -> None:
    with running(mains.stop_by_callback, workers=1, kind=kind) as run:
        run.call(0, mains.pid)
        run.group.stop()
        assert run.end() == ["told"]


def test_signal_handlers_are_restored(kind: str) -> None:
    def handler(*args: object) -> None:
        pass

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with LoopGroup(workers=1, kind=kind) as group:
            group.run(mains.identity)
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_thread_that_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "KILL_S", 0.1)
    began, free = threading.Event(), threading.Event()

    async def blocked(worker: object) -> None:
        began.set()
        free.wait()

    with running(blocked, workers=1, kind="thread", grace=0.0) as run:
        assert began.wait(WAIT_S)
        run.group.stop()
        with pytest.raises(WorkerFailed, match=r"worker 0 does not end: its thread is at .*:\d+"):
            run.end()
        free.set()
        for thread in threading.enumerate():
            if thread.name == "mioloop worker 0":
                thread.join(WAIT_S)
