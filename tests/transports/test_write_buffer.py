"""WriteBuffer alone: bytes leave it in the order of the writes, however few the kernel accepts."""

from __future__ import annotations

import random
import sys

import pytest

from mioloop.transports.write_buffer import new_write_buffer


def filled(*chunks):
    buffer = new_write_buffer()
    for chunk in chunks:
        buffer.append(chunk)
    return buffer


def test_an_empty_buffer_has_nothing_to_send():
    buffer = new_write_buffer()
    buffer.clear()
    assert (len(buffer), buffer.unsent(), buffer.as_one_block()) == (0, [], b"")


def test_chunks_keep_their_order_and_their_borders():
    assert filled(b"one", b"two", b"three").unsent() == [b"one", b"two", b"three"]


@pytest.mark.parametrize("sent", range(12))
def test_consumed_bytes_leave_at_the_front(sent):
    buffer = filled(b"one", b"two", b"three")
    buffer.consume(sent)
    assert b"".join(buffer.unsent()) == b"onetwothree"[sent:]
    assert all(buffer.unsent())


def test_a_block_holds_all_that_is_unsent_and_nothing_else():
    buffer = filled(b"one", b"two", b"three")
    buffer.consume(4)
    assert buffer.as_one_block() == b"wothree"
    assert (len(buffer), buffer.unsent()) == (1, [b"wothree"])
    buffer.append(b"four")
    buffer.consume(8)
    assert buffer.unsent() == [b"our"]


def test_a_cleared_buffer_can_be_filled_again():
    buffer = filled(*[b"chunk"] * 100)
    buffer.consume(7)
    buffer.clear()
    assert buffer.unsent() == []
    buffer.append(b"next")
    assert buffer.unsent() == [b"next"]


def test_more_than_all_cannot_be_consumed():
    buffer = filled(b"one", b"two")
    buffer.consume(1000)
    assert buffer.unsent() == []


@pytest.mark.parametrize("data", [None, bytearray(b"x"), "x", type("Bytes", (bytes,), {})(b"x")])
def test_only_exact_bytes_are_kept(data):
    with pytest.raises(TypeError):
        new_write_buffer().append(data)


def test_a_chunk_is_kept_until_its_last_byte_is_consumed():
    chunk = bytes(1000)
    before = sys.getrefcount(chunk)
    buffer = filled(chunk, b"x")
    buffer.consume(999)
    assert sys.getrefcount(chunk) == before + 1
    buffer.consume(1)
    assert sys.getrefcount(chunk) == before
    buffer.append(chunk)
    buffer.as_one_block()
    assert sys.getrefcount(chunk) == before
    buffer.append(chunk)
    del buffer
    assert sys.getrefcount(chunk) == before


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_calls_loses_and_doubles_no_byte(seed):
    chance = random.Random(seed)
    buffer, expected = new_write_buffer(), b""
    for _ in range(500):
        step = chance.randrange(10)
        if step < 5:
            data = chance.randbytes(chance.randint(1, 20))
            buffer.append(data)
            expected += data
        elif step < 8:
            sent = chance.randint(0, len(expected))
            buffer.consume(sent)
            expected = expected[sent:]
        elif step == 8:
            assert buffer.as_one_block() == expected
        elif chance.random() < 0.1:
            buffer.clear()
            expected = b""
        assert b"".join(buffer.unsent()) == expected
        assert (len(buffer) == 0) == (not expected)
