"""A fixed set of the fuzzer's programs; `python -m tests.fuzz` runs new ones.

MIOLOOP_FUZZ_SEEDS=100 runs so many on each trigger and selector, in the place of a few.
"""

from __future__ import annotations

import os

import pytest

from tests.fuzz.fuzz_program import STEPS, Program, random_program, shrunk
from tests.fuzz.fuzz_runner import failure

SEEDS = int(os.environ.get("MIOLOOP_FUZZ_SEEDS", "6"))
LONG_SEEDS = int(os.environ.get("MIOLOOP_FUZZ_SEEDS", "60"))
STEP_COUNT = 100
KINDS = [
    ("edge", "epoll"), ("level", "epoll"), ("oneshot", "epoll"), ("edge", "poll"), ("level", "poll")
]


def run_seeds(kind, first, count):
    for seed in range(first, first + count):
        program = random_program(seed, STEP_COUNT, *kind)
        wrong = failure(program)
        command = (
            f"python -m tests.fuzz --seed {seed} --steps {STEP_COUNT}"
            f" --trigger {kind[0]} --selector {kind[1]}"
        )
        assert not wrong, f"{command}\n{program}\n{wrong}"


@pytest.mark.timeout(120 + 60 * SEEDS)
@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_random_programs_keep_the_promises_of_every_program(kind, part):
    """R13, R22, R29, R45, R48, R60, R61, R89: see fuzz_machine.py and fuzz_ends.py."""
    count = (SEEDS + 2) // 3
    run_seeds(kind, 1000 * KINDS.index(kind) + part * count, count)


@pytest.mark.long
@pytest.mark.unsanitized("is the same with other seeds")
@pytest.mark.timeout(120 + 60 * LONG_SEEDS)
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_many_random_programs(kind):
    """R13, R22, R29, R45, R48, R60, R61, R89."""
    run_seeds(kind, 100_000 + 1000 * KINDS.index(kind), LONG_SEEDS)


def test_seed_reproduces_its_program():
    """The seed and the length say all; a program survives being printed as JSON."""
    program = random_program(7, 50, "edge", "epoll")
    assert program == random_program(7, 50, "edge", "epoll")
    assert program != random_program(8, 50, "edge", "epoll")
    assert Program.from_json(program.to_json()) == program
    assert str(program).startswith("seed 7, trigger edge")


def test_every_step_is_tried():
    """Among a few hundred seeds."""
    names = {
        step[0] for seed in range(300) for step in random_program(seed, 50, "edge", "epoll").steps
    }
    assert names == set(STEPS)


def test_failing_program_is_made_shorter():
    """The remaining steps are those steps that fail."""
    program = random_program(3, 100, "edge", "epoll")
    program.steps[50] = ["raise"]

    def fails(tried):
        return ["raise"] in tried.steps

    assert shrunk(program, fails).steps == [["raise"]]


def test_fault_of_the_loop_is_a_failure_of_its_program():
    """A crash, a hang and a wrong exception."""
    crash = Program("edge", "epoll", 0, [["crash"]])
    assert "AttributeError" in failure(crash)
    assert failure(Program("no such trigger", "epoll", 0, []))
