"""An unmodified anyio: its own runner makes the loop by the factory that it is given."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.certificates import Certificates

anyio = pytest.importorskip("anyio")
tls_module = pytest.importorskip("anyio.streams.tls")

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

WAIT_S = 10.0
RunAnyio = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture
def run_anyio(loop_kind: Any, no_leaked_descriptor: None) -> RunAnyio:
    """`anyio.run(main)` on the loop under test, in bounded time."""

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            assert type(asyncio.get_running_loop()).__module__.startswith(loop_kind.name)
            with anyio.fail_after(WAIT_S):
                return await main()

        return anyio.run(bounded, backend_options={"loop_factory": loop_kind.new})

    return run


def test_task_group_cancels_the_rest_when_one_fails(run_anyio: RunAnyio) -> None:
    ended = []

    async def waits(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0)        # shielded: still possible though cancelled
            ended.append(name)

    async def fails() -> None:
        await anyio.sleep(0)
        raise ValueError("one of them")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(waits, "first")
                group.start_soon(waits, "second")
                group.start_soon(fails)
        assert [str(error) for error in caught.value.exceptions] == ["one of them"]

    run_anyio(main)
    assert sorted(ended) == ["first", "second"]


def test_timeouts_end_the_block_that_they_enclose(run_anyio: RunAnyio) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.01):
                await anyio.sleep_forever()

    run_anyio(main)


async def echo(stream: Any) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)
        await stream.aclose()


async def exchange_a_megabyte(stream: Any) -> None:
    """Sent in pieces while it comes back; the echo cannot hold it all."""
    sent = bytes(range(256)) * 4096
    received = bytearray()

    async def send() -> None:
        for start in range(0, len(sent), 50_000):
            await stream.send(sent[start : start + 50_000])

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        while len(received) < len(sent):
            received += await stream.receive(70_000)
    assert received == sent


def test_tcp_streams_carry_all_data(run_anyio: RunAnyio) -> None:
    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await exchange_a_megabyte(stream)
                await stream.send_eof()
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            group.cancel_scope.cancel()

    run_anyio(main)


def test_tls_streams_carry_all_data(run_anyio: RunAnyio, certificates: Certificates) -> None:
    async def main() -> None:
        tcp_listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = tcp_listener.extra(anyio.abc.SocketAttribute.local_port)
        listener = tls_module.TLSListener(tcp_listener, certificates.server)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            async with await anyio.connect_tcp(
                "127.0.0.1", port, ssl_context=certificates.client
            ) as stream:
                await exchange_a_megabyte(stream)
                assert stream.extra(tls_module.TLSAttribute.tls_version).startswith("TLS")
            group.cancel_scope.cancel()

    run_anyio(main)


def test_receive_that_times_out_loses_no_byte(run_anyio: RunAnyio) -> None:
    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, await anyio.connect_tcp("127.0.0.1", port) as client:
            served: list[Any] = []
            accepted = anyio.Event()

            async def keep(stream: Any) -> None:
                served.append(stream)
                accepted.set()
                await anyio.sleep_forever()

            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, keep)
                await accepted.wait()
                for number in range(20):
                    with anyio.move_on_after(0.001):
                        await client.receive()
                        raise AssertionError("there was nothing to receive")
                    await served[0].send(b"%d" % number)
                    assert await client.receive() == b"%d" % number
                group.cancel_scope.cancel()
            await served[0].aclose()

    run_anyio(main)


def test_udp_and_unix_sockets(run_anyio: RunAnyio, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            await anyio.create_udp_socket(
                family=socket.AF_INET, local_host="127.0.0.1"
            ) as receiver,
            await anyio.create_connected_udp_socket(
                "127.0.0.1", receiver.extra(anyio.abc.SocketAttribute.local_port)
            ) as sender,
        ):
            await sender.send(b"datagram")
            data, address = await receiver.receive()
            assert data == b"datagram"
            await receiver.sendto(b"answer", *address)
            assert await sender.receive() == b"answer"

        listener = await anyio.create_unix_listener(tmp_path / "socket")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            async with await anyio.connect_unix(tmp_path / "socket") as stream:
                await exchange_a_megabyte(stream)       # by sock_recv() and sock_send()
            group.cancel_scope.cancel()

    run_anyio(main)


def test_subprocess_is_fed_and_read(run_anyio: RunAnyio) -> None:
    async def main() -> None:
        double = "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data * 2)"
        done = await anyio.run_process([sys.executable, "-c", double], input=b"x" * 100_000)
        assert done.stdout == b"x" * 200_000
        with pytest.raises(subprocess.CalledProcessError) as caught:
            await anyio.run_process([sys.executable, "-c", "raise SystemExit(3)"])
        assert caught.value.returncode == 3

    run_anyio(main)


def test_cancelled_subprocess_is_killed(run_anyio: RunAnyio) -> None:
    async def main() -> int | None:
        process = await anyio.open_process(
            [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"]
        )
        async with process:
            assert (await process.stdout.receive()).strip() == b"up"
            with anyio.move_on_after(0.01):
                await process.wait()
            process.kill()
            return await process.wait()

    assert run_anyio(main) == -signal.SIGKILL


def test_threads_and_the_loop_call_each_other(run_anyio: RunAnyio) -> None:
    async def main() -> None:
        async def double(number: int) -> int:
            await anyio.sleep(0)
            return number * 2

        def in_a_thread(number: int) -> int:
            return anyio.from_thread.run(double, number)

        results = []

        async def call(number: int) -> None:
            results.append(await anyio.to_thread.run_sync(in_a_thread, number))

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(call, number)
        assert sorted(results) == [number * 2 for number in range(30)]

    run_anyio(main)


def test_signals_are_received(run_anyio: RunAnyio) -> None:
    async def main() -> None:
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGTERM) as signals:
            for signum in (signal.SIGUSR1, signal.SIGTERM):
                signal.raise_signal(signum)
                assert await signals.__anext__() == signum

    run_anyio(main)


def test_blocking_portal_runs_the_loop_in_a_thread(loop_kind: Any) -> None:
    async def which_loop() -> str:
        await anyio.sleep(0)
        return type(asyncio.get_running_loop()).__module__

    with anyio.from_thread.start_blocking_portal(
        backend_options={"loop_factory": loop_kind.new}
    ) as portal:
        assert portal.call(which_loop).startswith(loop_kind.name)
