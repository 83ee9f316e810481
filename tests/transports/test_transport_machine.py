"""For any calls at the two ends of a connection, mioloop behaves like asyncio.

The machine makes equal calls on both loops, and runs each until nothing more happens: the ends get
equal callbacks, in equal order, and equal bytes. R45 to R60, in every order that hypothesis finds.

Behaviour that asyncio itself leaves to chance is left out: how the bytes are cut, and how much the
system takes of a write that is larger than its room. So a write is either small enough to be taken
whole, or huge: larger than all buffers between the ends and both water marks together. Faults of
asyncio itself are left out, too; a comment at each such step names the fault.

Planted, and found by an ordinary run: resume_writing() not called at a low mark of 0, an edge
forgotten that came during pause_reading(), the rest of the stream not read after its end was seen.
"""

from __future__ import annotations

import asyncio
import sys

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.support.paired import HUGE, Op, Pair

SAFE = 12_000               # outstanding bytes, in at most SAFE_WRITES, that any socket takes
SAFE_WRITES = 24
SURE = HUGE // 2  # outstanding bytes above which a writer is paused, with any marks
MOST = 4 * HUGE
CALLBACKS = ["data_received", "eof_received", "pause_writing", "resume_writing",
             "connection_lost"]
WRITES = ("write", "write_bytearray", "writelines")
ENDINGS = ("close", "abort", "reset")
DISTURBING = (*ENDINGS, "pause_reading", "misbehave")

sides = st.integers(0, 1)
sizes = st.one_of(st.integers(0, 3), st.integers(0, 3000))
marks = st.sampled_from([(65536, 16384), (0, 0), (100_000, 50_000), (3, 1), (None, None)])


def ops(*names):
    arguments = {
        "write": st.one_of(sizes, st.just(HUGE)),
        "write_bytearray": st.one_of(sizes, st.just(HUGE)),
        "writelines": st.one_of(st.lists(sizes, max_size=4), st.just([1, HUGE, 2])),
        "limits": marks,
        "set_protocol": st.booleans(),
    }
    return st.sampled_from(names).flatmap(
        lambda name: st.builds(Op, sides, st.just(name), arguments.get(name, st.none())))


talk = ops(*WRITES, "write", "write", "pause_reading", "resume_reading", "resume_reading",
           "limits", "set_protocol")
endings = ops("close", "abort", "reset", "write_eof", "write_eof")
anything = st.one_of(talk, endings, ops("misbehave"))


def size_of(op):
    return sum(op.argument) if op.name == "writelines" else op.argument


class TransportMachine(RuleBasedStateMachine):
    kind = None
    medium = "unix"
    tls = None

    @initialize(keep_open=st.tuples(st.booleans(), st.booleans()))
    def connect(self, keep_open):
        self.pairs = [
            Pair(asyncio.SelectorEventLoop(), self.medium, self.tls, keep_open, True),
            Pair(self.kind.new(), self.medium, self.tls, keep_open, False),
        ]
        self.writes = [0, 0]                    # since nothing was outstanding
        self.huge = [False, False]              # it ever wrote more than the system holds
        self.check()

    def teardown(self):
        for pair in getattr(self, "pairs", ()):
            pair.finish()

    @rule(batch=st.lists(talk, min_size=1, max_size=3))
    def talk_a_little(self, batch):
        self.step(batch)

    @rule(batch=st.lists(talk, min_size=1, max_size=3))
    def talk_more(self, batch):
        self.step(batch)

    @rule(side=sides, size=sizes, times=st.integers(1, 3))
    def send_and_answer(self, side, size, times):
        """An order of steps that is common in programs and rare among random steps."""
        for _ in range(times):
            self.step([Op(side, "write", size)])
            self.step([Op(1 - side, "write", size + 1)])

    @rule(side=sides, marks=marks, again=st.booleans())
    def fill_and_drain(self, side, marks, again):
        self.step([Op(1 - side, "pause_reading"), Op(side, "limits", marks)])
        self.step([Op(side, "write", HUGE)])
        if again:
            self.step([Op(side, "writelines", [1, HUGE])])
        self.step([Op(1 - side, "resume_reading")])

    @rule(side=sides, callback=st.sampled_from(CALLBACKS),
          batch=st.lists(anything, min_size=1, max_size=2))
    def do_inside_next(self, side, callback, batch):
        """The calls are made inside that callback, the next time it comes."""
        if self.tls and callback in ("pause_writing", "resume_writing"):
            return
        if callback not in ("data_received", "eof_received"):
            batch = [op._replace(side=side) for op in batch]
        batch = [op for op in self.without_handing_over(batch)
                 if op.name != "limits" and self.is_known(op)
                 and not (op.name in WRITES and size_of(op) > 100)]
        if callback == "resume_writing" and any(op.name in ENDINGS for op in batch):
            return                              # asyncio would call connection_lost() twice
        if sum(op.name in WRITES for op in batch) > 1:
            return
        if callback == "data_received" and self.outstanding(1 - side)[1] > SAFE:
            return
        for pair in self.pairs:
            pair.ends[side].hooks[callback] = list(batch)

    @rule(batch=st.lists(talk, max_size=2), ending=endings, seldom=st.integers(0, 4))
    def end(self, batch, ending, seldom):
        self.step([*batch, ending] if seldom == 4 else batch)

    # -- steps with a defined result ----------------------------------------------------------

    def outstanding(self, side):
        """The least and the most that an end wrote and its peer was not given, of both loops."""
        both = [pair.ends[side].unreceived for pair in self.pairs]
        return min(both), max(both)

    def is_known(self, op):
        """Whether asyncio defines the result of *op*, and this kind of connection has it."""
        end = self.pairs[0].ends[op.side]
        if op.name in ("pause_reading", "resume_reading") and end.was_told("eof_received"):
            return False                        # asyncio would read the end of file again
        if self.tls and op.name == "close" and end.transport.is_closing():
            return False                        # asyncio would not abort() it any more
        if (self.tls and op.name == "close" and end.peer.transport.is_closing()
                and not end.transport.is_reading()):
            return False                        # asyncio would not close until it reads
        if (self.tls and op.name == "resume_reading" and end.peer.transport.is_closing()
                and any(inner.name in DISTURBING for inner in end.hooks.get("data_received", ()))):
            return False  # asyncio still reports the end
        if self.tls and op == (op.side, "limits", (0, 0)):
            return False                        # asyncio would pause the writer for ever
        return not (op.name == "reset" and self.medium == "unix")

    def without_handing_over(self, batch):
        """TLS: asyncio's close() delivers data that a resume has not delivered yet (R68)."""
        if not self.tls:
            return batch
        resumed = {op.side for op in batch if op.name == "resume_reading"}
        return [op for op in batch if not (op.name == "close" and op.side in resumed)]

    def step(self, batch):
        batch = self.admitted(batch)
        for op in batch:
            if op.name in WRITES:
                self.writes[op.side] += 1
                self.huge[op.side] |= size_of(op) >= HUGE
        for pair in self.pairs:
            pair.run(batch)
        self.check()

    def admitted(self, batch):
        chosen = []
        ending = {op.side for op in batch if op.name in ENDINGS}
        for op in self.without_handing_over(batch):
            if not self.is_known(op):
                continue
            if op.name in WRITES:
                earlier = [o for o in chosen if o.name in WRITES and o.side == op.side]
                peer = self.pairs[0].ends[1 - op.side]
                gone = 1 - op.side in ending or peer.transport.is_closing()
                if gone and (earlier or self.crosses_the_end(op)):
                    continue                    # the second would find out, or not
                if not self.is_sure(op, sum(map(size_of, earlier))):
                    continue
            chosen.append(op)
        return chosen

    def crosses_the_end(self, op):
        """Whether chance decides the result of a write to a peer that is ending.

        Over TCP, after a huge one the window may be closed: the bytes come before the peer's
        close(), which resets then, or wait until after it.
        """
        return self.medium == "tcp" and self.huge[op.side]

    def is_sure(self, op, earlier):
        """Whether the system takes all of it, or surely not."""
        least, most = self.outstanding(op.side)
        size = size_of(op)
        if size >= HUGE:
            peer = self.pairs[0].ends[1 - op.side]
            if peer.transport.is_closing() or "data_received" in peer.hooks:
                return False                    # how much of it leaves before that is found out?
            return most + earlier + size <= MOST
        if most == 0:
            self.writes[op.side] = 0
        if most + earlier + size <= SAFE:
            return self.writes[op.side] < SAFE_WRITES
        return least > SURE

    # -- the comparison ------------------------------------------------------------------------

    def check(self):
        reference, ours = self.pairs
        for side in (0, 1):
            theirs, mine = reference.ends[side], ours.ends[side]
            assert mine.log == theirs.log, (
                f"end {side}: {mine.log}, but on asyncio {theirs.log}")
            assert mine.transport.is_closing() == theirs.transport.is_closing() or (
                self.tells_the_loss(mine))
            assert mine.reading == theirs.reading
            assert mine.writing_paused == theirs.writing_paused or self.tls
            for pair in self.pairs:
                self.check_bytes(pair.ends[side])
            if not self.huge[1 - side]:
                assert mine.received == theirs.received
        in_order = sorted if self.tls else list     # each end's own turn of sslproto comes later
        assert in_order(ours.reports) == in_order(reference.reports)

    def tells_the_loss(self, end):
        """Whether *end* has paused and its peer has ended the TLS session.

        asyncio sends no more data then, but its is_closing() hides that; mioloop's does not
        (test_tls_losses.py). Both deliver unread data when reading is resumed.
        """
        return (self.tls and not end.reading and end.transport.is_closing()
                and end.peer.transport.is_closing())

    def check_bytes(self, end):
        """All that was written to an end that reads has come."""
        if end.reading and not (end.transport.is_closing() or end.peer.transport.is_closing()):
            loop = type(end.pair.loop).__name__
            assert end.received == end.peer.written, f"of {loop}"
            assert not end.peer.writing_paused, f"of {loop}"


def run_machine(kind, medium, tls, examples, steps, **found):
    """*found*: how a failure is searched for, and how it is reported."""
    machine = type("Machine", (TransportMachine,), {"kind": kind, "medium": medium, "tls": tls})
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow], **found)
    case("runTest").runTest()


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Writes to a lost connection are warned about."""
    caplog.set_level("CRITICAL", "asyncio")


@pytest.fixture(params=["tcp", "unix", "tls"])
def medium(request):
    return request.param


def tls_of(medium, request):
    if medium != "tls":
        return None
    if sys.version_info < (3, 11):
        pytest.skip("asyncio 3.10 tells the end of TLS otherwise; mioloop does as later ones")
    return request.getfixturevalue("tls")


def test_both_ends_get_the_callbacks_that_asyncio_makes(mioloop_kind, medium, request):
    """R45 to R60: the same calls, the same bytes, in any order of steps."""
    tls = tls_of(medium, request)
    run_machine(mioloop_kind, "unix" if tls else medium, tls, 10, 20,
                derandomize=True, phases=[Phase.generate])


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_both_ends_get_the_callbacks_that_asyncio_makes_for_long(mioloop_kind, medium, request):
    """R45 to R60, with new steps each time."""
    tls = tls_of(medium, request)
    run_machine(mioloop_kind, "unix" if tls else medium, tls, 100, 50)
