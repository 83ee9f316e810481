"""Print docs/compatibility.md: the results of the tests for asyncio, uvloop and mioloop.

    python tests/compatibility.py

The page is derived from the tests: the rules are in `rules.py`, a test names its rules, a loop
keeps a rule if no test of the rule has a `known_difference` for it, and the tests of CPython that
are left out are in `stdlib/exclusions.py`. `make compatibility` writes the file, and
`test_compatibility.py` fails if it differs from the output of this program.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS.parent))

from tests.rules import RULES  # noqa: E402
from tests.stdlib.exclusions import EXCLUSIONS  # noqa: E402

LOOPS = ("asyncio", "uvloop", "mioloop")
RULE = re.compile(r"\bR\d+\b")
INCOMPLETE = 3  # the exit status if some test module could not be collected


@dataclass(frozen=True, order=True)
class Difference:
    """A `known_difference` mark."""

    loop: str
    reason: str
    since: tuple[int, ...] = ()
    until: tuple[int, ...] = ()
    when: bool = True
    only: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    strict: bool = True
    run: bool = True

    @classmethod
    def of(cls, mark: pytest.Mark) -> Difference:
        loop, reason = mark.args
        given = {name: value for name, value in mark.kwargs.items() if value is not None}
        return cls(loop, reason, **given)

    @property
    def versions(self) -> str:
        since, until = (".".join(map(str, v)) for v in (self.since, self.until))
        if since == until:
            return since
        return f"{since} to {until}" if since and until else f"from {since}" if since else (
            f"to {until}"
        )

    @property
    def text(self) -> str:
        return f"{self.reason} ({self.versions})" if self.versions else self.reason


@dataclass
class Test:
    """A test function, on all the loops that it runs on."""

    file: str
    name: str
    rules: list[str]
    loops: set[str] = field(default_factory=set)
    differences: set[Difference] = field(default_factory=set)

    def differences_of(self, loop: str) -> list[Difference]:
        return sorted(d for d in self.differences if d.loop == loop)


class Collector:
    """A pytest plugin that keeps the collected tests."""

    def __init__(self) -> None:
        self.tests: dict[str, Test] = {}
        self.missing: list[str] = []
        self.unknown_loops: set[str] = set()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self.missing.append(f"{report.nodeid}: {report.longrepr}")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            assert isinstance(item, pytest.Function)
            key = item.nodeid.partition("[")[0]
            if key not in self.tests:
                named = set(RULE.findall(item.function.__doc__ or ""))
                rules = sorted(named, key=lambda rule: int(rule[1:]))
                file = str(item.path.relative_to(TESTS))
                self.tests[key] = Test(file, item.originalname or item.name, rules)
            test = self.tests[key]
            loop = loop_of(item)
            test.loops.add(loop)
            differences = set(map(Difference.of, item.iter_markers("known_difference")))
            test.differences |= {d for d in differences if d.loop == loop}
            self.unknown_loops |= {d.loop for d in differences} - set(LOOPS)


def loop_of(item: pytest.Function) -> str:
    """The loop that it is parametrized with; a test without that is one of mioloop."""
    params: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    kinds = [params[name] for name in ("loop_kind", "served_loop") if name in params]
    return str(kinds[0].name) if kinds else "mioloop"


def collect() -> Collector:
    collector = Collector()
    # The page has nothing of tests/services, which needs clients that the extra `test` lacks.
    left_out = f"--ignore={TESTS / 'services'}"
    options = ["--collect-only", "--import-mode=importlib", "-o", "addopts=", left_out]
    plugins = ["-p", "no:terminal", "-p", "no:cacheprovider"]
    os.chdir(TESTS.parent)
    status = pytest.main([*options, *plugins, str(TESTS)], plugins=[collector])
    if status != pytest.ExitCode.OK and not collector.missing:
        collector.missing.append(f"pytest --collect-only ended with {status!r}")
    return collector


# -- the page ------------------------------------------------------------------------------------

HEAD = """\
# Compatibility

What the tests of this project say of asyncio, uvloop and mioloop. Printed by
`make compatibility`; changes made by hand are lost.

A rule is a promise that programs rely on. Its tests have one body for all three loops, and run on
mioloop with every trigger and selector. "Yes" is a loop that passes them all; otherwise there is
what it does instead, with the versions of Python that this is about. Such a difference is written
at the test, which fails when it has gone.
"""


def rule_table(tests: Iterable[Test]) -> Iterator[str]:
    by_rule = defaultdict(list)
    for test in tests:
        for rule in test.rules:
            by_rule[rule].append(test)
    yield "| rule | promise | tests | asyncio | uvloop | mioloop |"
    yield "|---|---|---|---|---|---|"
    for rule, title in RULES.items():
        files = Counter(Path(test.file).stem for test in by_rule[rule])
        where = ", ".join(f"`{file}` {count}" for file, count in sorted(files.items()))
        cells = " | ".join(verdict(by_rule[rule], loop) for loop in LOOPS)
        yield f"| {rule} | {title} | {where} | {cells} |"


def verdict(tests: list[Test], loop: str) -> str:
    there = [test for test in tests if loop in test.loops]
    if not there:
        return "not tested"
    reasons = sorted({d.text for test in there for d in test.differences_of(loop)})
    return "; ".join(reasons) if reasons else "yes"


def difference_list(tests: Iterable[Test], loop: str) -> Iterator[str]:
    found = [(test, d) for test in tests for d in test.differences_of(loop)]
    if not found:
        yield "None."
        return
    yield "| file | test | rules | what it does instead | Python | fails |"
    yield "|---|---|---|---|---|---|"
    for test, d in found:
        always = "in some cases" if d.only else "always"
        how = "not run" if not d.run else always if d.strict else "at times"
        rules, versions = ", ".join(test.rules), d.versions or "all"
        yield f"| `{test.file}` | `{test.name}` | {rules} | {d.reason} | {versions} | {how} |"


def framework_table(tests: Iterable[Test]) -> Iterator[str]:
    yield "| file | scenarios | loops |"
    yield "|---|---|---|"
    by_file = defaultdict(list)
    for test in tests:
        if test.file.startswith("frameworks"):
            by_file[test.file].append(test)
    for file, theirs in by_file.items():
        loops = {loop for test in theirs for loop in test.loops}
        yield f"| `{file}` | {len(theirs)} | {', '.join(sorted(loops))} |"


def exclusion_list() -> Iterator[str]:
    if not EXCLUSIONS:
        yield "None."
        return
    by_reason = defaultdict(list)
    for exclusion in EXCLUSIONS:
        by_reason[exclusion.reason].append(exclusion)
    for reason, exclusions in sorted(by_reason.items()):
        yield f"**{reason[:1].upper()}{reason[1:]}**"
        yield ""
        for exclusion in sorted(exclusions, key=lambda e: e.pattern):
            since, until = (".".join(map(str, v)) for v in (exclusion.since, exclusion.until))
            if exclusion.until == (3, 99):
                when = "all" if exclusion.since == (3, 10) else f"from {since}"
            else:
                when = since if since == until else f"{since} to {until}"
            yield f"- `{exclusion.pattern}` ({exclusion.loop} loop; Python: {when})".replace(
                "mioloop loop", "mioloop"
            )
        yield ""


def page(collected: Iterable[Test]) -> str:
    tests = sorted(collected, key=lambda test: (test.file, test.name))
    lines = [HEAD, "## Rules", "", *rule_table(tests), ""]
    for loop in LOOPS:
        lines += [f"## Known differences of {loop}", "", *difference_list(tests, loop), ""]
    lines += ["## Frameworks, unmodified", "", *framework_table(tests), ""]
    lines += ["## Tests of CPython's `test.test_asyncio` that are not run", "", *exclusion_list()]
    return "\n".join(lines).rstrip() + "\n"


def mistakes(tests: Iterable[Test], unknown_loops: Iterable[str]) -> Iterator[str]:
    """Rules that no test names, and unknown rules and loops that tests name."""
    for loop in unknown_loops:
        yield f"known_difference({loop!r}, ...): the loops are {', '.join(LOOPS)}"
    named = {rule for test in tests for rule in test.rules}
    for rule in RULES:
        if rule not in named:
            yield f"{rule} is named by no test: {RULES[rule]}"
    for test in tests:
        for rule in test.rules:
            if rule not in RULES:
                yield f"{test.file}: {test.name} names {rule}, which is not in tests/rules.py"


def main() -> int:
    collector = collect()
    if collector.missing:
        print("not every test could be collected:", *collector.missing, sep="\n", file=sys.stderr)
        return INCOMPLETE
    found = list(mistakes(collector.tests.values(), collector.unknown_loops))
    if found:
        print(*found, sep="\n", file=sys.stderr)
        return 1
    sys.stdout.write(page(collector.tests.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
