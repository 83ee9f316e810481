"""loop._ready and loop._scheduled, as tools that know asyncio's see and change them: R100."""

from __future__ import annotations

import asyncio
import collections
import copy
import heapq

import pytest

pytestmark = pytest.mark.known_difference("uvloop", "has no such queues", run=False)


@pytest.fixture
def ran():
    return []


@pytest.fixture
def queued(loop, ran):
    """Five handles in the ready queue."""
    return [loop.call_soon(ran.append, i) for i in range(5)]


def run_one_turn(loop):
    loop.stop()
    loop.run_forever()


def outcome(operation, queue):
    """The result of the call, or the type of its exception."""
    try:
        return operation(queue)
    except Exception as exc:
        return type(exc)


# Each is done to loop._ready and to a deque of the same handles. *h*: one more handle.
OPERATIONS = {
    "append": lambda q, h: q.append(h[5]),
    "appendleft": lambda q, h: q.appendleft(h[5]),
    "extend": lambda q, h: q.extend(h[5:]),
    "extendleft": lambda q, h: q.extendleft(reversed(h[5:])),
    "extend by itself": lambda q, h: q.extend(q),
    "pop": lambda q, h: q.pop(),
    "popleft": lambda q, h: q.popleft(),
    "index 0": lambda q, h: q[0],
    "index -1": lambda q, h: q[-1],
    "index too large": lambda q, h: q[17],
    "slice": lambda q, h: q[1:2],
    "set": lambda q, h: q.__setitem__(2, h[5]),
    "set too large": lambda q, h: q.__setitem__(17, h[5]),
    "delete": lambda q, h: q.__delitem__(1),
    "remove": lambda q, h: q.remove(h[3]),
    "remove what is not there": lambda q, h: q.remove(h[5]),
    "index of": lambda q, h: q.index(h[3]),
    "index of in part": lambda q, h: q.index(h[3], 1, 2),
    "count": lambda q, h: q.count(h[1]),
    "insert": lambda q, h: q.insert(2, h[5]),
    "reverse": lambda q, h: q.reverse(),
    "rotate": lambda q, h: q.rotate(),
    "rotate back": lambda q, h: q.rotate(-2),
    "clear": lambda q, h: q.clear(),
    "copy": lambda q, h: q.copy(),
    "copy.copy": lambda q, h: copy.copy(q),
    "len": lambda q, h: len(q),
    "bool": lambda q, h: bool(q),
    "list": lambda q, h: list(q),
    "reversed": lambda q, h: list(reversed(q)),
    "in": lambda q, h: (h[2] in q, h[5] in q, None in q),
    "equal": lambda q, h: (q == collections.deque(h[:5]), q != collections.deque(h[:5]), q == 3),
    "equal to itself": lambda q, h: q == q,
    "add": lambda q, h: q + collections.deque(h[5:]),
    "multiply": lambda q, h: q * 2,
    "repr": lambda q, h: repr(q),
    "maxlen": lambda q, h: q.maxlen,
    "hash": lambda q, h: hash(q),
    "isinstance": lambda q, h: isinstance(q, collections.deque),
    "changed in the middle": lambda q, h: [q.append(h[5]) for _ in q],
    "rotated in the middle": lambda q, h: [q.rotate() for _ in q],
    "taken in the middle": lambda q, h: [q.popleft() for _ in q],
    "changed at the end": lambda q, h: [q.append(h[5]) for handle in q if handle is h[4]],
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_ready_queue_behaves_like_a_deque(loop, queued, ran, name):
    """R100: the same result, the same exception, the same order afterwards."""
    operation = OPERATIONS[name]
    more = [loop.call_soon(ran.append, i) for i in (5, 6)]
    for handle in more:
        loop._ready.remove(handle)
    handles = queued + more
    model = collections.deque(queued)
    expected = outcome(lambda q: operation(q, handles), model)
    assert outcome(lambda q: operation(q, handles), loop._ready) == expected
    assert list(loop._ready) == list(model)
    order = [handles.index(handle) for handle in model]
    run_one_turn(loop)
    assert ran == order


def test_ready_queue_takes_handles_that_are_not_the_loops(loop, ran):
    """R100: asyncio.Handle objects that a tool made; they come out as they went in."""
    loop.call_soon(ran.append, "own")
    foreign = [asyncio.Handle(ran.append, (i,), loop) for i in ("first", "second", "cancelled")]
    loop._ready.append(foreign[1])
    loop._ready.appendleft(foreign[0])
    loop._ready.extend(foreign[2:])
    assert loop._ready[0] is foreign[0] and foreign[1] in loop._ready
    assert loop._ready.pop() is foreign[2]
    loop._ready.append(foreign[2])
    foreign[2].cancel()
    run_one_turn(loop)
    assert ran == ["first", "own", "second"]


@pytest.mark.known_difference("asyncio", "raises in the next turn")
def test_ready_queue_refuses_objects_that_are_no_handles(loop, queued):
    """R100: TypeError, and the queue stays as it was."""
    for put in (
        loop._ready.append,
        loop._ready.appendleft,
        lambda item: loop._ready.extend([item]),
        lambda item: loop._ready.insert(0, item),
    ):
        for item in (None, print, 3):
            with pytest.raises(TypeError):
                put(item)
    assert list(loop._ready) == queued


@pytest.mark.known_difference("asyncio", "takes them, and goes by them")
def test_queues_cannot_be_replaced_in_silence(loop):
    """R100: AttributeError where asyncio would go by another object from then on."""
    for name, value in ("_ready", collections.deque()), ("_scheduled", []):
        with pytest.raises(AttributeError, match=name):
            setattr(loop, name, value)


def test_changes_in_place_by_an_operator_work(loop, ran):
    """R100: += assigns the object that is there."""
    loop._ready += [asyncio.Handle(ran.append, (1,), loop)]
    loop._scheduled += [asyncio.TimerHandle(loop.time(), ran.append, (2,), loop)]
    loop._scheduled.sort()
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert ran == [1, 2]


# -- loop._scheduled -----------------------------------------------------------------------------


@pytest.fixture
def timers(loop, ran):
    now = loop.time()
    return [loop.call_at(now + delay_s, ran.append, delay_s) for delay_s in (30, 10, 20)]


def test_scheduled_shows_the_timers(loop, timers):
    """R100: tools count them, and look at their times; the next one is the first."""
    assert len(loop._scheduled) == 3 and loop._scheduled
    assert loop._scheduled[0] is timers[1]
    assert {id(timer) for timer in loop._scheduled} == {id(timer) for timer in timers}
    assert sorted(loop._scheduled) == [timers[1], timers[2], timers[0]]
    assert min(timer.when() for timer in loop._scheduled) == timers[1].when()
    assert isinstance(loop._scheduled, list)
    assert all(timer._scheduled for timer in timers)


def test_scheduled_shows_changes_since_it_was_looked_up(loop, timers):
    """R100: nest_asyncio looks it up once a turn."""
    scheduled = loop._scheduled
    assert len(scheduled) == 3
    later = loop.call_later(40, print)
    assert later in scheduled and len(scheduled) == 4
    assert scheduled is loop._scheduled


def test_timer_that_a_tool_takes_out_does_not_fire(loop, ran):
    """R100: heappop(), remove(), clear(), del, before or during a run."""
    now = loop.time()

    def add(what):
        return loop.call_at(now, ran.append, what)

    add("popped by heapq")
    assert heapq.heappop(loop._scheduled)._args == ("popped by heapq",)
    loop._scheduled.remove(add("removed"))
    add("cleared")
    loop._scheduled.clear()
    add("deleted")
    del loop._scheduled[:]
    add("popped")
    loop._scheduled.pop()
    add("fires")
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert ran == ["fires"]


def test_timer_that_a_tool_puts_in_fires(loop, ran):
    """R100: heappush() of a handle that a tool has made."""
    timer = asyncio.TimerHandle(loop.time() + 0.001, ran.append, ("pushed",), loop)
    heapq.heappush(loop._scheduled, timer)
    timer._scheduled = True
    assert timer in loop._scheduled
    again = loop.call_later(0.002, ran.append, "put back")
    loop._scheduled.remove(again)
    heapq.heappush(loop._scheduled, again)
    cancelled = asyncio.TimerHandle(loop.time() + 0.001, ran.append, ("cancelled",), loop)
    heapq.heappush(loop._scheduled, cancelled)
    cancelled._cancelled = True
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert ran == ["pushed", "put back"]


def test_timer_that_a_tool_moves_to_the_ready_queue_fires_once(loop, ran):
    """R100: as nest_asyncio does in its turn."""
    timer = loop.call_later(0.001, ran.append, "once")
    handle = heapq.heappop(loop._scheduled)
    assert handle is timer
    handle._scheduled = False
    loop._ready.append(handle)
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert ran == ["once"]


@pytest.mark.known_difference("asyncio", "raises out of the run, each time")
def test_objects_that_are_no_timers_are_refused(loop):
    """R100: at the latest when the next turn begins, and once."""
    with pytest.raises(TypeError):
        loop._scheduled.append(3)
    heapq.heappush(loop._scheduled, 3)
    with pytest.raises(TypeError):
        run_one_turn(loop)
    run_one_turn(loop)


def test_list_of_timers_outlives_the_loop(loop, timers):
    """R22: it is empty then."""
    scheduled = loop._scheduled
    loop.close()
    assert list(scheduled) == [] and len(loop._scheduled) == 0
