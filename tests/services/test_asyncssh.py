"""An unmodified asyncssh, client and server: processes with redirected streams."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.local_servers import HOST

asyncssh = pytest.importorskip("asyncssh")

pytestmark = [
    pytest.mark.services,
    # asyncssh 2.24 makes it to wait for its writers, and drops it, on every loop.
    pytest.mark.filterwarnings("ignore:coroutine 'Queue.join' was never awaited"),
]

TEXT = b"".join(b"line %d\n" % number for number in range(20_000))


@pytest.fixture(scope="module")
def key() -> Any:
    return asyncssh.generate_private_key("ssh-ed25519")


async def run_command(process: Any) -> None:
    """The server's side of a session: a program of the system with the session's streams."""
    child = await asyncio.create_subprocess_shell(
        process.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    await process.stdout.drain()
    await process.stderr.drain()
    process.exit(await child.wait())


class Server(asyncssh.SSHServer):  # type: ignore[misc, name-defined]
    def connection_requested(self, *addresses: Any) -> bool:
        return True         # a client may forward its ports


@asynccontextmanager
async def connected(key: Any) -> AsyncIterator[Any]:
    public = asyncssh.import_authorized_keys(key.export_public_key().decode())
    async with asyncssh.listen(
        HOST, 0, server_factory=Server, server_host_keys=[key],
        authorized_client_keys=public, process_factory=run_command, encoding=None,
    ) as server:
        async with asyncssh.connect(
            HOST, server.get_port(), username="tester", client_keys=[key], known_hosts=None,
            config=None, agent_path=None,
        ) as connection:
            yield connection


async def test_command_answers_with_its_output_and_status(
    loop: asyncio.AbstractEventLoop, key: Any
) -> None:
    async with connected(key) as connection:
        done = await connection.run("tr a-z A-Z; echo oops >&2; exit 3", input="text")
        assert (done.stdout, done.stderr, done.exit_status) == ("TEXT", "oops\n", 3)


async def test_sessions_at_once_share_one_connection(
    loop: asyncio.AbstractEventLoop, key: Any
) -> None:
    async with connected(key) as connection:
        done = await asyncio.gather(*(connection.run(f"echo {n}") for n in range(5)))
        assert [each.stdout for each in done] == [f"{number}\n" for number in range(5)]


async def test_streams_are_redirected_to_files(
    loop: asyncio.AbstractEventLoop, key: Any, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(TEXT)
    async with connected(key) as connection:
        await connection.run("cat", stdin=str(source), stdout=str(target), encoding=None)
    assert target.read_bytes() == TEXT


async def test_streams_are_redirected_to_sockets(
    loop: asyncio.AbstractEventLoop, key: Any
) -> None:
    """asyncssh makes a transport of each socket; this test's own streams have the far ends."""
    (to_stdin, stdin), (from_stdout, stdout) = socket.socketpair(), socket.socketpair()
    async with connected(key) as connection:
        _, writer = await asyncio.open_connection(sock=to_stdin)
        reader, other_writer = await asyncio.open_connection(sock=from_stdout)
        async with connection.create_process(
            "cat", stdin=stdin, stdout=stdout, encoding=None
        ) as process:
            writer.write(TEXT)
            writer.write_eof()
            assert await reader.read() == TEXT
            assert (await process.wait()).exit_status == 0
        for each in (writer, other_writer):
            each.close()
            await each.wait_closed()


async def test_streams_are_redirected_to_pipes(
    loop: asyncio.AbstractEventLoop, key: Any
) -> None:
    read_end, write_end = os.pipe()
    async with connected(key) as connection:
        first = await connection.create_process("seq 20000", stdout=write_end, encoding=None)
        second = await connection.create_process("wc -l", stdin=read_end)
        assert (await second.wait()).stdout.strip() == "20000"
        await first.wait()


async def test_output_of_one_process_is_the_input_of_another(
    loop: asyncio.AbstractEventLoop, key: Any
) -> None:
    async with connected(key) as connection:
        first = await connection.create_process("seq 20000")
        second = await connection.create_process("wc -l", stdin=first.stdout)
        assert (await second.wait()).stdout.strip() == "20000"


async def test_output_is_redirected_to_a_local_program(
    loop: asyncio.AbstractEventLoop, key: Any
) -> None:
    async with connected(key) as connection:
        local = await asyncio.create_subprocess_exec(
            "sort", "-n", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        async with connection.create_process(
            "seq 5000 -1 1", stdout=local.stdin, encoding=None
        ) as process:
            await process.wait()
        output, _ = await local.communicate()
        assert output.split() == [b"%d" % number for number in range(1, 5001)]


async def test_forwarded_port_reaches_a_server(
    loop: asyncio.AbstractEventLoop, key: Any
) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    async with connected(key) as connection:
        async with connection.forward_local_port("", 0, HOST, port) as listener:
            reader, writer = await asyncio.open_connection(HOST, listener.get_port())
            writer.write(TEXT)
            writer.write_eof()
            assert await reader.read() == TEXT
            writer.close()
            await writer.wait_closed()
    server.close()
    await server.wait_closed()
