"""Token: an unsigned number."""

from __future__ import annotations

import pickle

import pytest

from mioloop.mio import Token


def test_token_is_the_number_it_was_made_of() -> None:
    assert Token(3) == 3
    assert hash(Token(3)) == hash(3)
    assert {Token(3): "a"}[3] == "a"
    assert Token(2) < Token(3)
    assert [10, 20, 30, 40][Token(3)] == 40


def test_token_shows_its_number() -> None:
    assert repr(Token(3)) == str(Token(3)) == "Token(3)"


def test_token_max_can_be_made() -> None:
    assert Token.MAX == 2**64 - 1
    assert Token(2**64 - 1) == Token.MAX


@pytest.mark.parametrize("bad", [-1, 2**64])
def test_token_out_of_range_overflows(bad: int) -> None:
    with pytest.raises(OverflowError, match=str(bad)):
        Token(bad)


@pytest.mark.parametrize("bad", ["1", 1.0, None])
def test_token_of_something_else_is_a_type_error(bad: object) -> None:
    with pytest.raises(TypeError, match=repr(bad)):
        Token(bad)


def test_token_is_pickled() -> None:
    assert pickle.loads(pickle.dumps(Token(5))) == Token(5)
    assert type(pickle.loads(pickle.dumps(Token(5)))) is Token
