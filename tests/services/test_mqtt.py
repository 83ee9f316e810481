"""An unmodified aiomqtt and a mosquitto broker: paho has the socket, and the loop watches it."""

from __future__ import annotations

import asyncio
import os

import pytest

from examples.local_servers import HOST, LocalServer

aiomqtt = pytest.importorskip("aiomqtt")

pytestmark = pytest.mark.services


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_published_messages_reach_a_subscriber_in_order(
    loop: asyncio.AbstractEventLoop, mosquitto: LocalServer, qos: int
) -> None:
    async with (
        aiomqtt.Client(HOST, mosquitto.port) as subscriber,
        aiomqtt.Client(HOST, mosquitto.port) as publisher,
    ):
        await subscriber.subscribe("news/#", qos=qos)
        for number in range(50):
            await publisher.publish(f"news/{number % 3}", number, qos=qos)
        heard = []
        async for message in subscriber.messages:
            heard.append((str(message.topic), message.payload))
            if len(heard) == 50:
                break
        assert heard == [(f"news/{number % 3}", b"%d" % number) for number in range(50)]


async def test_large_message_comes_whole(
    loop: asyncio.AbstractEventLoop, mosquitto: LocalServer
) -> None:
    payload = os.urandom(1 << 20) * 4
    async with aiomqtt.Client(HOST, mosquitto.port) as client:
        await client.subscribe("large", qos=1)
        await client.publish("large", payload, qos=1)
        assert (await anext(client.messages)).payload == payload


async def test_will_of_a_client_that_vanishes_is_published(
    loop: asyncio.AbstractEventLoop, mosquitto: LocalServer
) -> None:
    will = aiomqtt.Will("wills/client", b"gone", qos=1)
    async with aiomqtt.Client(HOST, mosquitto.port) as heir:
        await heir.subscribe("wills/#", qos=1)
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client(HOST, mosquitto.port, identifier="one", will=will) as client:
                # The broker drops a client when another one connects with its identifier.
                async with aiomqtt.Client(HOST, mosquitto.port, identifier="one"):
                    async for _ in client.messages:
                        pass
        assert (await anext(heir.messages)).payload == b"gone"
