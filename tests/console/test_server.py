"""The console answers while its loop is blocked, only its user, and only if a loop asked for it."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading

import pytest

import mioloop
from mioloop.console import VERSION, client, place
from mioloop.console import server as console_server
from mioloop.options import TRIGGERS

PYTHON_FOR_ALL = "/usr/bin/python3"     # one that other users may run


def functions(answer):
    return [frame["function"] for frame in answer["loops"][0]["stack"]]


def ask(pid, what):
    with client.connect(pid) as connection:
        return connection.ask(what)


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_blocked_loop_is_answered_for_and_its_line_is_shown(start, trigger):
    server = start(MIOLOOP_TRIGGER=trigger)
    with server.blocked():
        (loop,) = ask(server.pid, "stack")["loops"]
        assert not loop["waits"] and loop["running"]
        names = [frame["function"] for frame in loop["stack"]]
        assert names[-3:] == ["serve", "block", "wait_for_the_test"]
        (task,) = [
            each for each in ask(server.pid, "tasks")["loops"][0]["tasks"]
            if each["state"] == "running"
        ]
        assert task["name"] == loop["task"] and task["coroutine"] == "serve"


def test_an_idle_loop_is_said_to_wait(server):
    with server.connect() as sock:
        sock.sendall(b"hello\n")
        assert sock.recv(100) == b"hello\n"
    answer = ask(server.pid, "stack")
    while not answer["loops"][0]["waits"]:      # it may still close the connection
        answer = ask(server.pid, "stack")
    assert functions(answer) == []


def test_two_loops_in_two_threads_are_answered_for(start):
    server = start(
        "import asyncio, threading, mioloop\n"
        "ready = threading.Barrier(3)\n"
        "async def main(n):\n"
        "    ready.wait()\n"
        "    await asyncio.get_running_loop().create_future()\n"
        "for n in (1, 2):\n"
        "    run = lambda n=n: mioloop.run(main(n))\n"
        "    threading.Thread(target=run, name=f'worker {n}').start()\n"
        "ready.wait()\n"
        "print('ready', flush=True)\n"
    )
    loops = ask(server.pid, "tasks")["loops"]
    assert sorted(loop["thread"] for loop in loops) == ["worker 1", "worker 2"]
    assert [task["coroutine"] for loop in loops for task in loop["tasks"]] == ["main", "main"]


def test_requests_that_come_together_are_answered_in_turn(server):
    requests = [{"v": VERSION, "ask": "loops"}, {"v": VERSION, "ask": "stack"}] * 200
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as answers:
        sock.settimeout(10)
        sock.connect(place.sockets_of(os.geteuid())[server.pid])
        sender = threading.Thread(
            target=sock.sendall, args=(b"".join(json.dumps(r).encode() + b"\n" for r in requests),)
        )
        sender.start()
        found = [json.loads(answers.readline()) for _ in requests]
        sender.join()
    assert [("now_ns" in each) for each in found] == [True, False] * 200


@pytest.mark.parametrize(
    ("request_line", "error"),
    [
        (b"import os", "one line of JSON"),
        (b"[]", "version 1"),
        (b'{"v": 2, "ask": "loops"}', "version 1"),
        (b'{"v": 1, "ask": "lops"}', "did you mean loops?"),
        (b'{"v": 1, "ask": ["loops"]}', "there is no request"),
    ],
)
def test_a_wrong_request_is_answered_with_its_error(server, request_line, error):
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as answers:
        sock.settimeout(10)
        sock.connect(place.sockets_of(os.geteuid())[server.pid])
        sock.sendall(request_line + b"\n")
        assert error in json.loads(answers.readline())["error"]
        sock.sendall(b'{"v": 1, "ask": "loops"}\n')
        assert json.loads(answers.readline())["pid"] == server.pid


def test_a_request_without_end_closes_the_connection(server):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(place.sockets_of(os.geteuid())[server.pid])
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                sock.sendall(b"x" * console_server.LONGEST_REQUEST)
    assert ask(server.pid, "loops")["pid"] == server.pid


# -- the socket ------------------------------------------------------------------------------------


def test_nothing_listens_unless_a_loop_asked_for_it(start, sockets):
    server = start(MIOLOOP_CONSOLE="")
    with server.blocked():
        assert not sockets.exists()
        with open(f"/proc/{server.pid}/status") as status:
            assert "Threads:\t1\n" in status


def test_a_program_without_a_console_does_not_import_it():
    code = (
        "import mioloop, sys\n"
        "mioloop.new_event_loop().close()\n"
        "print('mioloop.console' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "False\n"


def test_only_the_owner_can_use_the_socket_and_its_directory(server, sockets):
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert stat.S_IMODE((sockets / f"mioloop-{server.pid}.sock").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another user")
@pytest.mark.skipif(not os.path.exists(PYTHON_FOR_ALL), reason=f"there is no {PYTHON_FOR_ALL}")
def test_another_user_is_refused_and_root_is_not(sockets):
    name = f"\0mioloop-test-{os.getpid()}"
    connect = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({name!r}); s.recv(1)"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        for user, allowed in ((65534, False), (0, True)):
            peer = subprocess.Popen([PYTHON_FOR_ALL, "-c", connect], user=user)
            with listening.accept()[0] as sock:
                assert console_server.is_allowed(sock) is allowed
            peer.wait(timeout=10)


@pytest.mark.parametrize("kind", ["open to others", "a symbolic link", "a file"])
def test_a_directory_that_another_user_may_have_made_is_not_used(sockets, caplog, kind):
    if kind == "open to others":
        sockets.mkdir()
        sockets.chmod(0o777)
    elif kind == "a file":
        sockets.touch(0o700)
    else:
        (sockets.parent / "elsewhere").mkdir(0o700)
        sockets.symlink_to(sockets.parent / "elsewhere")
    mioloop.new_event_loop(console=True).close()
    assert f"process {os.getpid()} has no console: {sockets}" in caplog.text
    assert place.sockets_of(os.geteuid()) == {}


def test_the_socket_and_the_thread_end_with_the_last_loop(sockets):
    path = sockets / f"mioloop-{os.getpid()}.sock"
    before = threading.active_count()
    first, second = (mioloop.new_event_loop(console=True) for _ in range(2))
    assert path.is_socket() and threading.active_count() == before + 1
    first.close()
    assert len(ask(os.getpid(), "loops")["loops"]) == 1
    second.close()
    assert not path.exists() and threading.active_count() == before
    third = mioloop.new_event_loop(console=True)
    assert path.is_socket()
    third.close()
    assert not path.exists() and threading.active_count() == before


def test_a_program_that_ends_with_an_open_loop_removes_its_socket(start, sockets):
    server = start(
        "import mioloop\n"
        "loop = mioloop.new_event_loop()\n"
        "print('ready', flush=True)\n"
        "input()\n"
    )
    assert list(sockets.iterdir())
    server.process.communicate("\n", timeout=10)
    assert list(sockets.iterdir()) == []


def test_the_socket_of_a_killed_process_is_removed(server, sockets):
    server.end()
    assert place.sockets_of(os.geteuid()).keys() == {server.pid}
    assert client.consoles() == []
    assert list(sockets.iterdir()) == []


def test_the_socket_of_an_older_process_with_this_pid_is_replaced(sockets):
    sockets.mkdir(0o700)
    path = sockets / f"mioloop-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    loop = mioloop.new_event_loop(console=True)
    assert ask(os.getpid(), "loops")["pid"] == os.getpid()
    loop.close()


# -- forks -----------------------------------------------------------------------------------------

FORKING = '''
import asyncio, os, sys
import mioloop

async def main():
    await asyncio.sleep(0)
    pid = os.fork()
    if pid == 0:
        os.read(0, 1)
        os._exit(0)
    print(pid, flush=True)
    await asyncio.get_running_loop().create_future()

mioloop.run(main())
'''


def test_after_a_fork_the_parent_answers_and_the_child_does_not(start):
    server = start(FORKING)
    child = int(server.first_line)
    assert ask(server.pid, "stack")["pid"] == server.pid
    with pytest.raises(client.ConsoleError, match="has no console"):
        client.connect(child)
    with open(f"/proc/{child}/net/unix") as file:
        listening = {line.split()[6] for line in file if line.endswith(".sock.new\n")}
    held = {os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")}
    assert not {f"socket:[{inode}]" for inode in listening} & held
    server.release()


def test_after_a_fork_in_another_thread_while_the_loop_is_blocked_the_parent_answers(start):
    server = start(
        "import asyncio, os, threading, mioloop\n"
        "def fork():\n"
        "    if os.fork() == 0: os._exit(0)\n"
        "    os.wait()\n"
        "    print('forked', flush=True)\n"
        "async def main():\n"
        "    threading.Thread(target=fork).start()\n"
        "    os.read(0, 1)\n"
        "mioloop.run(main())\n"
    )
    assert server.first_line == "forked"
    assert ask(server.pid, "stack")["loops"][0]["stack"][-1]["function"] == "main"
    server.release()


def test_a_child_that_runs_the_loop_answers_for_itself(start):
    server = start(
        "import asyncio, os, mioloop\n"
        "loop = mioloop.new_event_loop()\n"
        "loop.run_until_complete(asyncio.sleep(0))\n"
        "pid = os.fork()\n"
        "async def main():\n"
        "    if pid == 0: print(os.getpid(), flush=True)\n"
        "    await loop.create_future()\n"
        "loop.run_until_complete(main())\n"
    )
    child = int(server.first_line)
    try:
        assert ask(child, "loops")["pid"] == child
        assert ask(server.pid, "loops")["pid"] == server.pid
    finally:
        os.kill(child, 9)


COUNTING = '''
import os, sys, threading, warnings
import mioloop

def warnings_of_forks():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(50):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
    return len(caught)

loop = mioloop.new_event_loop()
with_console = warnings_of_forks(), threading.active_count()
threading.Thread(target=input, daemon=True).start()
print(*with_console, warnings_of_forks(), flush=True)
'''


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no Python before 3.12 warns")
def test_a_fork_does_not_warn_of_the_thread_of_the_console(start):
    """In a process of its own: this one has the thread of faulthandler."""
    assert start(COUNTING).first_line == "0 2 50"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_connection_outlives_a_fork_of_the_process(sockets):
    loop = mioloop.new_event_loop(console=True)
    with client.connect(os.getpid()) as connection:
        connection.ask("loops")
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        assert connection.ask("loops")["pid"] == os.getpid()
    loop.close()


