"""Use an installed mioloop: streams, datagrams, a child, a thread, the Poll core.

Needs the standard library only, and no file of the repository. Prints the parts that work.
"""

from __future__ import annotations

import asyncio
import sys
import threading

import mioloop
from mioloop import mio


async def streams() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x" * 300_000)
    writer.write_eof()
    assert len(await reader.read()) == 300_000
    writer.close()
    server.close()


async def datagrams() -> None:
    loop = asyncio.get_running_loop()
    got = loop.create_future()

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, address: object) -> None:
            got.set_result(data)

    here, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    there, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=here.get_extra_info("sockname")
    )
    there.sendto(b"datagram")
    assert await got == b"datagram"
    here.close()
    there.close()


async def child() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print('child')", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert (output, process.returncode) == (b"child\n", 0)


async def thread() -> None:
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,)).start()
    await woken.wait()


async def watch() -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    registration, readiness = mio.Registration.new2()
    token = loop.watch(  # type: ignore[attr-defined]
        registration, mio.Ready.READABLE, mio.PollOpt.edge(), lambda event: done.set()
    )
    readiness.set_readiness(mio.Ready.READABLE)
    await done.wait()
    loop.unwatch(token)  # type: ignore[attr-defined]


async def main() -> None:
    for part in (streams, datagrams, child, thread, watch):
        await asyncio.wait_for(part(), 20)
        print(f"{part.__name__}: works")


if __name__ == "__main__":
    for selector in mio.selectors():
        for trigger in ("edge", "level", "oneshot"):
            print(f"{selector}, {trigger}")
            mioloop.run(main(), selector=selector, trigger=trigger)
