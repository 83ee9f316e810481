"""Ready, UnixReady, PollOpt, Interest: sets, their algebra and their texts."""

from __future__ import annotations

import copy
import pickle
import sys
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mioloop.mio import Interest, PollOpt, Ready, unix

SETS = (Ready, PollOpt)
linux = pytest.mark.skipif(sys.platform != "linux", reason="the flags of Linux")

ready_sets = st.sets(st.sampled_from(["READABLE", "WRITABLE", "ERROR", "HUP"]))


def make(names: set[str]) -> Ready:
    ready = Ready.EMPTY
    for name in names:
        ready |= getattr(Ready, name)
    return ready


@given(ready_sets, ready_sets)
def test_ready_behaves_as_a_set_of_its_names(a: set[str], b: set[str]) -> None:
    assert make(a) | make(b) == make(a | b)
    assert make(a) & make(b) == make(a & b)
    assert make(a) ^ make(b) == make(a ^ b)
    assert make(a) - make(b) == make(a - b)
    assert make(a).insert(make(b)) == make(a | b)
    assert make(a).remove(make(b)) == make(a - b)
    assert make(a).contains(make(b)) == (a >= b)
    assert (make(b) in make(a)) == (a >= b)
    assert make(a).is_empty() == (not a)
    assert bool(make(a)) == bool(a)
    assert (make(a) == make(b)) == (a == b)
    assert a != b or hash(make(a)) == hash(make(b))
    assert Ready.from_usize(make(a).as_usize()) == make(a)


def test_flags_have_the_numbers_of_mio() -> None:
    assert [Ready.READABLE.as_usize(), Ready.WRITABLE.as_usize()] == [1, 2]
    assert [Ready.ERROR.as_usize(), Ready.HUP.as_usize()] == [4, 8]
    assert [PollOpt.EDGE.as_usize(), PollOpt.LEVEL.as_usize()] == [1, 2]
    assert PollOpt.ONESHOT.as_usize() == 4


@linux
def test_linux_has_priority_but_neither_aio_nor_lio() -> None:
    assert Ready.ALL.as_usize() == 0x4F
    assert Ready.PRIORITY.as_usize() == 0x40
    assert Ready.AIO == Ready.LIO == Ready.EMPTY


def test_flags_of_ready_are_disjoint() -> None:
    names = ["READABLE", "WRITABLE", "ERROR", "HUP", "AIO", "LIO", "PRIORITY"]
    for a, b in combinations(names, 2):
        assert (getattr(Ready, a) & getattr(Ready, b)).is_empty()


@pytest.mark.parametrize(
    "name", ["readable", "writable", "error", "hup", "aio", "lio", "priority"]
)
def test_each_flag_of_ready_has_a_function_and_a_question(name: str) -> None:
    flag = getattr(Ready, name)()
    assert flag == getattr(Ready, name.upper())
    asked = getattr(flag, f"is_{name}")()
    assert asked is not flag.is_empty()             # an absent flag is never set
    assert getattr(Ready.ALL, f"is_{name}")() is asked
    assert getattr(Ready.EMPTY, f"is_{name}")() is False


def test_each_flag_of_pollopt_has_a_function_and_a_question() -> None:
    for name in ("edge", "level", "oneshot"):
        flag = getattr(PollOpt, name)()
        assert flag == getattr(PollOpt, name.upper())
        assert getattr(flag, f"is_{name}")() is True
        assert getattr(PollOpt.EMPTY, f"is_{name}")() is False
    assert PollOpt.empty() == PollOpt.EMPTY
    assert Ready.empty() == Ready.EMPTY
    assert Ready.all() == Ready.ALL


def test_every_set_contains_the_empty_one() -> None:
    assert Ready.EMPTY in Ready.EMPTY
    assert Ready.EMPTY in Ready.READABLE
    assert PollOpt.EMPTY in PollOpt.EDGE


def test_unix_ready_is_ready() -> None:
    assert unix.UnixReady is Ready


@pytest.mark.parametrize("operator", ["__or__", "__and__", "__xor__", "__sub__"])
def test_sets_mix_neither_with_each_other_nor_with_numbers(operator: str) -> None:
    for other in (PollOpt.EDGE, 1, Interest.READABLE, None):
        assert getattr(Ready.READABLE, operator)(other) is NotImplemented
    with pytest.raises(TypeError):
        Ready.READABLE | PollOpt.EDGE
    assert Ready.READABLE != PollOpt.EDGE
    assert Ready.READABLE != 1


def test_membership_of_something_else_is_a_type_error_that_names_it() -> None:
    with pytest.raises(TypeError, match=r"expected Ready, not int \(1\)"):
        Ready.READABLE.contains(1)


@pytest.mark.parametrize("cls", SETS)
def test_unknown_bits_are_refused_with_the_known_ones(cls: type) -> None:
    for bad in (-1, 1 << 20):
        with pytest.raises(ValueError, match=f"no flags beyond {cls._known():#x}"):
            cls.from_usize(bad)
    with pytest.raises(TypeError, match="'x'"):
        cls.from_usize("x")


def test_sets_are_immutable() -> None:
    with pytest.raises(AttributeError):
        Ready.READABLE._bits = 2
    with pytest.raises(AttributeError):
        del Ready.READABLE._bits
    ready = Ready.READABLE
    ready |= Ready.WRITABLE
    assert Ready.READABLE.as_usize() == 1


@pytest.mark.parametrize("value", [Ready.READABLE | Ready.HUP, PollOpt.ONESHOT, Interest.WRITABLE])
def test_sets_are_copied_and_pickled(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value


def test_text_of_ready_names_its_flags_in_order() -> None:
    assert str(Ready.EMPTY) == "(empty)"
    assert str(Ready.READABLE) == "Readable"
    assert str(Ready.HUP | Ready.ERROR | Ready.WRITABLE) == "Writable | Error | Hup"


def test_text_of_pollopt_names_its_flags_in_order() -> None:
    assert str(PollOpt.EMPTY) == "(empty)"
    assert str(PollOpt.EDGE) == "Edge-Triggered"
    assert str(PollOpt.ONESHOT | PollOpt.LEVEL) == "Level-Triggered | OneShot"


@linux
def test_d6_text_of_all_shows_no_flag_that_the_platform_lacks() -> None:
    assert str(Ready.ALL) == "Readable | Writable | Error | Hup | Priority"


def test_interest_is_never_empty() -> None:
    both = Interest.READABLE | Interest.WRITABLE
    assert both == Interest.READABLE.add(Interest.WRITABLE)
    assert both.remove(Interest.READABLE) == Interest.WRITABLE
    assert Interest.READABLE.remove(both) is None
    with pytest.raises(ValueError, match="cannot be empty"):
        Interest(0)


def test_interest_answers_with_its_readiness() -> None:
    for name, other in product(("readable", "writable"), repeat=2):
        interest = getattr(Interest, name.upper())
        assert getattr(interest, f"is_{other}")() is (name == other)
    assert not Interest.READABLE.is_aio()
    assert not Interest.READABLE.is_lio()
    assert not Interest.READABLE.is_priority()
    with pytest.raises(ValueError, match="no flags beyond"):
        Interest(Ready.HUP.as_usize())
