"""The names of loops: their options, and the answer to an unknown one."""

from __future__ import annotations

import os

import pytest

from mioloop.compare.measure.environment import warnings_of_variables
from mioloop.compare.measure.loops import Loop, default_options


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


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("mioloop", "mioloop:io_uring=off"),
        ("mioloop:level:spin=0.1", "mioloop:level:spin=0.1:io_uring=off"),
        ("mioloop:io_uring=on", None),
        ("mioloop:io_uring=off", None),
        ("mioloop.factory:new_event_loop", None),
        ("asyncio", None),
    ],
)
def test_loop_without_io_uring_is_made_unless_the_name_states_io_uring(
    name: str, other: str | None
) -> None:
    assert Loop(name).without_io_uring() == (Loop(other) if other else None)


def test_options_of_the_environment_are_taken_out_and_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("BACKEND", "TRIGGER", "SELECTOR", "SPIN"):
        monkeypatch.delenv(f"MIOLOOP_{name}", raising=False)
    monkeypatch.setenv("MIOLOOP_SPIN", "")
    monkeypatch.setenv("MIOLOOP_IO_URING", "0")
    with default_options() as taken:
        assert taken == ["MIOLOOP_IO_URING=0"]
        assert not {"MIOLOOP_SPIN", "MIOLOOP_IO_URING"} & set(os.environ)
    assert os.environ["MIOLOOP_IO_URING"] == "0" and os.environ["MIOLOOP_SPIN"] == ""


def test_variables_that_are_ignored_or_decide_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIOLOOP_TLS_ENGINE", raising=False)
    (ignored,) = warnings_of_variables(["MIOLOOP_IO_URING=0"])
    assert ignored.startswith("MIOLOOP_IO_URING=0 is ignored")

    monkeypatch.setenv("MIOLOOP_TLS_ENGINE", "memory")
    assert warnings_of_variables([]) == [
        "MIOLOOP_TLS_ENGINE=memory decides how mioloop does TLS in this run"
    ]
