"""The names of loops: their options, and the answer to an unknown one."""

from __future__ import annotations

import pytest

from mioloop.compare.measure.loops import Loop


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("asyncio", {"backend": "asyncio"}),
        ("mioloop", {"backend": "mio"}),
        ("mioloop:level", {"backend": "mio", "trigger": "level"}),
        ("mioloop:edge:poll", {"backend": "mio", "trigger": "edge", "selector": "poll"}),
        ("mioloop:spin=0.0001", {"backend": "mio", "spin": 0.0001}),
        ("mioloop:io_uring=off", {"backend": "mio", "io_uring": False}),
        ("mioloop.factory:new_event_loop", {}),
        ("package.module:make.loop", {}),
    ],
)
def test_options_of_a_loop_are_parsed_from_its_name(name: str, options: dict[str, object]) -> None:
    assert Loop(name).options == options


def test_environment_carries_the_options_of_a_loop_to_a_program() -> None:
    assert Loop("mioloop:level:spin=0.0001:io_uring=off").environment == {
        "MIOLOOP_BACKEND": "mio",
        "MIOLOOP_TRIGGER": "level",
        "MIOLOOP_SPIN": "0.0001",
        "MIOLOOP_IO_URING": "False",
        "MIOLOOP_COMPARE_LOOP": "mioloop:level:spin=0.0001:io_uring=off",
    }


@pytest.mark.parametrize(
    "name",
    ["", "uv", "mioloop:fast", "mioloop:edge:select", "mioloop:io_uring=maybe", "a:", "a:b c"],
)
def test_unknown_loop_is_refused_with_the_valid_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)there is no loop .*the loops are asyncio, uvloop"):
        Loop(name)
