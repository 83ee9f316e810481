"""Random programs: a seed gives a list of steps, which can be printed, read, and made shorter.

A step is a name and numbers. The numbers choose among the objects that exist when the step is done
(the machine takes them modulo the count), so that each part of a program is a program, too.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

KINDS = ("tcp", "unix", "tls", "pipe", "datagram", "raw")

# The step that a protocol's callback may do when it is called.
EVENTS = ("connection_made", "data_received", "eof_received", "pause_writing", "connection_lost")

# name -> (weight, the range of each number)
STEPS = {
    "open": (10, (len(KINDS),)),
    "write": (30, (64, 200_000)),
    "write_small": (30, (64, 64)),
    "writelines": (6, (64, 12, 5000)),
    "write_eof": (3, (64,)),
    "close": (5, (64,)),
    "abort": (3, (64,)),
    "pause": (6, (64,)),
    "resume": (8, (64,)),
    "set_protocol": (5, (64, 2)),
    "limits": (3, (64, 100_000)),
    "look": (4, (64,)),
    "forget": (2, (64,)),
    "duplicate": (2, (64,)),
    "hook": (25, (64, len(EVENTS), 1 << 30)),
    "turn": (6, (3,)),
    "select": (4, (3,)),
    "garbage": (12, (64, 1 << 30, 2)),
    "collect": (4, ()),
    "threshold": (2, (2,)),
    "interrupt": (3, (2,)),
    "raise": (2, ()),
    "stop": (2, ()),
    "fork": (1, (3,)),
    "timer": (12, (14, 1 << 30)),
    "cancel": (5, (64,)),
    "soon": (12, (1 << 30,)),
    "chain": (2, (3000,)),
    "thread": (3, (60,)),
    "watch": (8, (8, 2)),
    "unwatch": (5, (8, 2)),
    "feed": (8, (8,)),
    "close_watched": (3, (8, 3)),
    "sock_recv": (5, (8,)),
    "sock_sendall": (3, (8, 100_000)),
    "cancel_task": (4, (16,)),
    "debug": (1, (2,)),
    "many": (1, (40,)),
}
# One number chooses the step inside of another step's callback; these steps are never chosen.
NOT_INSIDE = {"open", "many"}
INSIDE = [name for name in STEPS if name not in NOT_INSIDE]
INSIDE_WEIGHTS = [STEPS[name][0] for name in INSIDE]

Step = list  # of a name and ints


def random_step(rng: random.Random, names: list[str], weights: list[int]) -> Step:
    (name,) = rng.choices(names, weights)
    return [name, *(rng.randrange(limit) for limit in STEPS[name][1])]


def inner_step(number: int) -> Step:
    """The step that a hook, a timer or a finalizer does; a function of one number."""
    return random_step(random.Random(number), INSIDE, INSIDE_WEIGHTS)


@dataclass(frozen=True)
class Program:
    trigger: str
    selector: str
    seed: int
    steps: list[Step]
    without: tuple[str, ...] = ()   # these names do nothing, wherever they come up

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, trigger {self.trigger}, selector {self.selector}:"]
        for step in self.steps:
            inside = [inner_step(number) for number in self._inner_numbers(step)]
            lines.append("  " + repr(step) + "".join(f"    # does {inner}" for inner in inside))
        return "\n".join(lines)

    @staticmethod
    def _inner_numbers(step: Step) -> list[int]:
        places = {limit: i for i, limit in enumerate(STEPS[step[0]][1], 1)}
        return [step[places[1 << 30]]] if 1 << 30 in places else []

    def to_json(self) -> str:
        return json.dumps([self.trigger, self.selector, self.seed, self.steps, self.without])

    @staticmethod
    def from_json(text: str) -> Program:
        *fields, without = json.loads(text)
        return Program(*fields, without=tuple(without))


def random_program(seed: int, count: int, trigger: str, selector: str) -> Program:
    rng = random.Random(seed)
    # Each program leaves out about half of the names: rare steps then meet each other more often.
    left_out = {name for name in STEPS if rng.random() < 0.4} - {"open", "write", "write_small"}
    names = [name for name in STEPS if name not in left_out]
    weights = [STEPS[name][0] for name in names]
    steps = [["open", rng.randrange(len(KINDS))] for _ in range(rng.randrange(1, 5))]
    steps += [random_step(rng, names, weights) for _ in range(count)]
    return Program(trigger, selector, seed, steps)


def shrunk(program: Program, fails: Callable[[Program], bool], tries: int = 150) -> Program:
    """Return a shorter program that *fails* too: halves are left out first, then quarters."""
    size = max(1, len(program.steps) // 2)
    while tries > 0:
        at, shorter = 0, False
        while at < len(program.steps) and tries > 0:
            tries -= 1
            rest = replace(program, steps=program.steps[:at] + program.steps[at + size :])
            if rest.steps and fails(rest):
                program, shorter = rest, True
            else:
                at += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    return program
