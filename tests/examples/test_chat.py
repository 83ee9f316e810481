"""examples/chat, started by its one command, with a client of each kind and Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
import pytest

from examples.local_servers import HOST, MissingServer, find

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0


class Chat:
    """The running command."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process = process
        self.directory = directory      # its temporary files
        self.url = ""
        self.server_ports: list[int] = []

    def next_line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if match := re.match(r"chat on (http://\S+)/", line):
            self.url = match[1]
        elif match := re.search(r":(\d+)$", line):
            self.server_ports.append(int(match[1]))
        else:
            raise AssertionError(f"printed {line!r}; status {self.process.poll()}")
        return line

    @property
    def room(self) -> str:
        return f"{self.url}/rooms/lobby"

    def check_nothing_is_left(self) -> None:
        """Wait for the command's end: no server and no file remains."""
        assert self.process.wait(WAIT_S) == 0
        assert os.listdir(self.directory) == []
        for port in self.server_ports:
            with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
                sock.connect((HOST, port))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "examples.chat", "--port", "0", *arguments]


@pytest.fixture(autouse=True)
def clients() -> None:
    pytest.importorskip("asyncpg")
    pytest.importorskip("redis")


@pytest.fixture
def start() -> Iterator[Callable[[], Chat]]:
    """Starts the command; however the test ends, the command has ended afterwards."""
    try:
        find("postgres", "postgresql", "/usr/lib/postgresql/*/bin")
        find("redis-server", "redis-server")
    except MissingServer as missing:
        pytest.skip(str(missing))
    with ExitStack() as stack:

        def start() -> Chat:
            directory = stack.enter_context(directory_for_every_user())
            process = stack.enter_context(
                subprocess.Popen(
                    command(),
                    cwd=ROOT,
                    env=os.environ | {"TMPDIR": str(directory)},
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)        # its servers end with it
            return Chat(process, directory)

        yield start


@pytest.fixture
def chat(start: Callable[[], Chat]) -> Chat:
    chat = start()
    while not chat.url:
        chat.next_line()
    return chat


@contextmanager
def directory_for_every_user() -> Iterator[Path]:
    """A temporary directory that servers reach which do not run as this user."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o711)
        yield Path(name)


async def next_event(body: asyncio.StreamReader) -> tuple[int, str]:
    """The id and the text of the next server-sent event."""
    fields = {}
    while (line := (await body.readline()).decode().rstrip("\n")) or "data" not in fields:
        name, _, value = line.partition(": ")
        fields[name] = value
    return int(fields["id"]), json.loads(fields["data"])["text"]


async def use(chat: Chat) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{chat.url}/loop") as answer:
            assert (await answer.json())["loop"].startswith("mioloop.")
        async with session.get(chat.url) as answer:
            assert "WebSocket" in await answer.text()

        async with (
            session.ws_connect(f"{chat.room}/socket") as first,
            session.ws_connect(f"{chat.room}/socket") as second,
            session.get(f"{chat.room}/events", headers={"Last-Event-ID": "0"}) as events,
        ):
            await first.send_json({"author": "Ada", "text": "by socket"})
            for websocket in (first, second):
                assert (await websocket.receive_json())["text"] == "by socket"
            assert await next_event(events.content) == (1, "by socket")

            body = {"author": "Bob", "text": "by post"}
            async with session.post(f"{chat.room}/messages", json=body) as answer:
                assert answer.status == 201
            for websocket in (first, second):
                assert (await websocket.receive_json())["text"] == "by post"
            assert await next_event(events.content) == (2, "by post")

            await second.send_str("no JSON")
            assert "expected" in (await second.receive_json())["error"]

        async with session.post(f"{chat.room}/messages", data="no JSON") as answer:
            assert answer.status == 400
        async with session.get(f"{chat.room}/messages", params={"after": "x"}) as answer:
            assert answer.status == 400
        async with session.get(f"{chat.room}/messages", params={"after": "1"}) as answer:
            assert [each["text"] for each in await answer.json()] == ["by post"]
        async with session.get(
            f"{chat.room}/events", headers={"Last-Event-ID": "1"}
        ) as events:
            assert await next_event(events.content) == (2, "by post")


def test_messages_reach_every_kind_of_client_until_ctrl_c(chat: Chat) -> None:
    async def main() -> None:
        await use(chat)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{chat.url}/rooms/other/socket") as websocket,
            session.get(f"{chat.url}/rooms/other/events") as events,
        ):
            assert await events.content.readline() == b": hello\n"
            chat.process.send_signal(signal.SIGINT)
            assert (await websocket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert await events.content.read() == b"\n"

    asyncio.run(asyncio.wait_for(main(), WAIT_S))
    chat.check_nothing_is_left()


def test_signal_while_the_servers_start_ends_them(start: Callable[[], Chat]) -> None:
    chat = start()
    assert chat.next_line().startswith("PostgreSQL on ")
    chat.process.send_signal(signal.SIGTERM)
    chat.check_nothing_is_left()


def test_missing_server_is_told_in_one_line() -> None:
    completed = subprocess.run(
        command("--database", "postgresql://nowhere"),
        cwd=ROOT, env=os.environ | {"PATH": "/nonexistent"}, capture_output=True, text=True,
        timeout=WAIT_S,
    )
    assert completed.returncode == 1
    assert completed.stderr == (
        "chat: redis-server is not installed: apt-get install redis-server\n"
    )
