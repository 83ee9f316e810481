"""group.channel(): a bounded queue between loops."""

from __future__ import annotations

import asyncio
import functools
import pickle
from typing import Any

import pytest

from mioloop.group import Channel, LoopGroup
from tests.group import mains
from tests.support.groups import WAIT_S, RunningGroup, running

pytestmark = pytest.mark.slow


def test_each_item_reaches_one_receiver_in_order(kind: str) -> None:
    count = 300
    with LoopGroup(workers=3, kind=kind) as group:
        channel = group.channel(capacity=4)
        none, *found = group.run(functools.partial(mains.pass_numbers, channel, count))
    assert none == [] and sorted(found[0] + found[1]) == list(range(count))
    assert all(numbers == sorted(numbers) for numbers in found)


def test_a_full_channel_lets_the_sender_wait(kind: str) -> None:
    with LoopGroup(workers=1, kind=kind) as group:
        channel = group.channel(capacity=3)
        assert channel.capacity == 3
        assert group.run(functools.partial(mains.put_until_full, channel)) == [3]


def test_a_cancelled_get_loses_no_item_and_keeps_their_order(kind: str) -> None:
    count = 200
    with LoopGroup(workers=2, kind=kind) as group:
        main = functools.partial(mains.cancel_gets, group.channel(capacity=2), count)
        assert group.run(main)[1] == list(range(count))


def test_a_loop_of_the_program_takes_part(kind: str) -> None:
    async def talk(there: Channel, back: Channel) -> list[Any]:
        found = []
        for item in [*range(20), None]:
            await there.put(item)
            found.append(await back.get())
        return found

    with LoopGroup(workers=1, kind=kind) as group:
        there, back = group.channel(2), group.channel(2)
        run = RunningGroup(group, functools.partial(mains.echo, there, back))
        assert asyncio.run(asyncio.wait_for(talk(there, back), WAIT_S)) == [*range(20), None]
        run.end()


def test_the_end_of_the_group_ends_a_wait(kind: str) -> None:
    async def wait(channel: Channel, group: LoopGroup) -> None:
        get = asyncio.ensure_future(channel.get())
        await asyncio.sleep(0)
        group.close()
        with pytest.raises(RuntimeError, match="has ended"):
            await get
        with pytest.raises(RuntimeError, match="has ended"):
            await channel.put(1)

    with running(mains.idle, kind=kind) as run:
        run.call(0, mains.pid)
        asyncio.run(wait(run.group.channel(), run.group))


@pytest.mark.parametrize("capacity", [0, -1, True, 1.5, None])
def test_a_wrong_capacity_is_named(capacity: Any) -> None:
    with pytest.raises(ValueError, match=f"capacity must be .* not {capacity!r}"):
        LoopGroup(workers=1).channel(capacity)


def test_an_item_that_cannot_be_pickled_is_refused() -> None:
    channel = LoopGroup(workers=1, kind="process").channel()
    with pytest.raises(TypeError, match="an item of a channel must be picklable"):
        asyncio.run(channel.put(lambda: 1))


def test_a_channel_is_for_its_group() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(LoopGroup(workers=1, kind="thread").channel())
    channel = pickle.loads(pickle.dumps(LoopGroup(workers=1, kind="process").channel()))
    with pytest.raises(RuntimeError, match="is for the loops of that group"):
        asyncio.run(channel.get())
