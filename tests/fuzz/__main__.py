"""python -m tests.fuzz: random programs of transports, turns, finalizers, signals, forks.

    python -m tests.fuzz --seed 7                     one program, again
    python -m tests.fuzz --minutes 30 --jobs 2        new ones, on every trigger and selector
    python -m tests.fuzz --seed 7 --print             only show it

A program that fails is run again with parts left out, and the shortest that still fails is shown.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tests.fuzz.fuzz_program import Program, random_program, shrunk
from tests.fuzz.fuzz_runner import LIMIT_S, failure, kind_of

TRIGGERS = ("edge", "level", "oneshot")
SELECTORS = ("epoll", "poll")


def programs(options: argparse.Namespace) -> Iterator[Program]:
    first = options.seed if options.seed is not None else random.randrange(1 << 31)
    count = options.count or (1 if options.seed is not None and not options.minutes else None)
    kinds = [
        (trigger, selector)
        for trigger in ([options.trigger] if options.trigger else TRIGGERS)
        for selector in ([options.selector] if options.selector else SELECTORS)
        if (trigger, selector) != ("oneshot", "poll") or options.selector
    ]
    until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    without = tuple(filter(None, options.without.split(",")))
    for seed in itertools.count(first) if count is None else range(first, first + count):
        if options.seed is not None and count == 1:
            for kind in kinds:
                yield replace(random_program(seed, options.steps, *kind), without=without)
        else:
            program = random_program(seed, options.steps, *kinds[seed % len(kinds)])
            yield replace(program, without=without)
        if time.monotonic() > until:
            return


def smallest(program: Program, wrong: str, limit_s: float) -> tuple[Program, str]:
    """Return a shorter program that fails in the same way, and its faults."""
    said = [wrong]

    def fails(shorter: Program) -> bool:
        now = failure(shorter, limit_s)
        if now and kind_of(now) == kind_of(wrong):
            said.append(now)
            return True
        return False

    return shrunk(program, fails), said[-1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="the first seed; default: a random one")
    parser.add_argument("--count", type=int, help="that many seeds; default: 1, or until --minutes")
    parser.add_argument("--minutes", type=float, help="go on for so long")
    parser.add_argument("--steps", type=int, default=150, help="the length of a program")
    parser.add_argument("--without", default="", metavar="NAME,NAME",
                        help="steps to leave out: those of a fault that is known")
    parser.add_argument("--trigger", choices=(*TRIGGERS, "asyncio"), help="or the stdlib's loop")
    parser.add_argument("--selector", choices=SELECTORS)
    parser.add_argument("--jobs", type=int, default=1, help="so many processes at once")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for one program")
    parser.add_argument("--print", action="store_true", help="show the program, do not run it")
    parser.add_argument("--no-shrink", action="store_true", help="show it as it is when it fails")
    options = parser.parse_args()
    if options.print:
        for program in programs(options):
            print(program)
        return 0
    if options.seed is None and options.count is None and not options.minutes:
        options.minutes = 1.0
    ran = failed = 0
    with ThreadPoolExecutor(options.jobs) as executor:
        source = programs(options)
        while batch := list(itertools.islice(source, options.jobs)):
            results = executor.map(lambda program: failure(program, options.limit), batch)
            for program, wrong in zip(batch, results):
                ran += 1
                if not wrong:
                    continue
                failed += 1
                if not options.no_shrink:
                    program, wrong = smallest(program, wrong, options.limit)
                print(f"{program}\n{wrong}\n", flush=True)
    print(f"{ran} programs, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
