"""A sentence for each loop: whether it is faster than the base, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from mioloop.compare.measure.loops import BASELINE
from mioloop.compare.report.summary import MIN_ROUNDS, CaseSummary, Line

MOST_NAMES = 3      # a longer list of workloads is given as a number only


@dataclass(frozen=True)
class Words:
    """How a kind of figure is compared. In each text, {} is the base."""

    better: str
    worse: str
    even: str
    short_better: str
    short_worse: str
    short_even: str
    times: str
    inverted: bool = False      # a ratio of 2 is half as much of it

    def factor(self, ratio: float) -> float:
        return 1 / ratio if self.inverted and ratio else ratio


SPEED = Words(
    "is faster than {}", "is slower than {}", "is as fast as {}",
    "faster", "slower", "as fast", "times as fast",
)
MEMORY = Words(
    "takes less memory than {}", "takes more memory than {}", "takes as much memory as {}",
    "less memory", "more memory", "as much memory", "times as much", inverted=True,
)


@dataclass
class Counts:
    """The lines of one loop by their verdict, each with its case."""

    words: Words
    noun: str                   # "workload" or "case"
    by_verdict: dict[str, list[tuple[CaseSummary, Line]]] = field(default_factory=dict)

    def add(self, case: CaseSummary, line: Line) -> None:
        self.by_verdict.setdefault(line.verdict, []).append((case, line))

    def of(self, verdict: str) -> list[tuple[CaseSummary, Line]]:
        return self.by_verdict.get(verdict, [])

    def name_of(self, case: CaseSummary) -> str:
        if case.workload == "program":      # of the user
            return "your program"
        return case.workload if self.noun == "workload" else case.name

    @property
    def total(self) -> int:
        return sum(map(len, self.by_verdict.values()))


def headline(cases: Sequence[CaseSummary], base: str) -> str:
    """The first of the sentences(): the one about mioloop, if it is compared to another loop."""
    return sentences(cases, base)[0]


def sentences(cases: Sequence[CaseSummary], base: str) -> list[str]:
    """A sentence about each loop that is compared to the base; the one about mioloop is first.

    The cases of a family (scaling, latency) count only if no other case was measured, because
    they answer other questions. Workloads that are compared by nothing do not count.
    """
    judged = [case for case in cases if case.judged_by]
    counted = [case for case in judged if not case.family] or judged
    loops = dict.fromkeys(
        line.loop for case in counted for line in case.rows if line.loop not in (base, BASELINE)
    )
    if not loops:
        return [_alone(cases, base)]
    ordered = sorted(loops, key=lambda loop: loop.partition(":")[0] != "mioloop")
    return [_sentence(loop, base, counted) for loop in ordered]


def _alone(cases: Sequence[CaseSummary], base: str) -> str:
    measured = [line for case in cases for line in case.rows if line.loop == base]
    if not any(line.rounds or line.failed for line in measured):
        return "Nothing was measured."
    failed = sum(bool(line.failed) for line in measured)
    if failed == len(measured):
        return f"{base} failed, and no other loop was measured."
    text = f"{base} is compared with no other loop"
    return f"{text}, and failed in {failed} of {len(measured)} cases." if failed else f"{text}."


def _sentence(loop: str, base: str, cases: Sequence[CaseSummary]) -> str:
    noun = "workload" if len({case.workload for case in cases}) == len(cases) else "case"
    speed, memory = Counts(SPEED, noun), Counts(MEMORY, noun)
    for case in cases:
        for line in case.rows:
            if line.loop == loop:
                (memory if case.judged_by == "bytes" else speed).add(case, line)
    parts = [speed] if speed.total else []
    parts += [memory] if memory.total else []
    texts = [
        text
        for index, counts in enumerate(parts)
        for text in _clauses(counts, "it" if index else loop, base)
    ]
    text = "; ".join(texts)
    return f"{text[0].upper() if text.startswith('whether ') else text[0]}{text[1:]}."


def _clauses(counts: Counts, subject: str, base: str) -> list[str]:
    """The most important verdict as a main clause, and each other one as a short clause."""
    words = counts.words
    main = next(
        (name for name in ("faster", "slower", "even", "undecided", "failed") if counts.of(name)),
        "none",
    )
    starts = {
        "faster": f"{subject} {words.better.format(base)}",
        "slower": f"{subject} {words.worse.format(base)}",
        "even": f"{subject} {words.even.format(base)}",
        "undecided": f"whether {subject} {words.better.format(base)} is undecided",
        "failed": f"{subject} failed",
        "none": f"{subject} is not compared with {base}",
    }
    if main == "none":
        return [f"{starts[main]} in {_where(counts, counts.total)}: {_without_ratio(counts, base)}"]
    clauses = [starts[main] + _amount(counts, main, is_main=True)]
    shorts = {
        "slower": words.short_worse, "even": words.short_even,
        "undecided": "undecided", "failed": "failed",
    }
    clauses += [
        short + _amount(counts, name, is_main=False)
        for name, short in shorts.items()
        if name != main and counts.of(name)
    ]
    if counts.of("skipped"):
        clauses.append(f"not measured in {len(counts.of('skipped'))}")
    if counts.of(""):
        clauses.append(f"not compared in {len(counts.of(''))}, where {base} has no figure")
    return clauses


def _without_ratio(counts: Counts, base: str) -> str:
    if not counts.of("skipped"):
        return f"{base} has no figure"
    return "no time was left" if not counts.of("") else f"no time was left, or {base} has no figure"


def _where(counts: Counts, count: int) -> str:
    """``9 of 12 workloads``, ``all 12 workloads``; the name of a case that is the only one."""
    total, noun = counts.total, counts.noun
    if total == 1:
        ((case, _),) = next(iter(counts.by_verdict.values()))
        return counts.name_of(case)
    if count == total:
        return f"both {noun}s" if total == 2 else f"all {total} {noun}s"
    return f"{count} of {total} {noun}s"


def _amount(counts: Counts, verdict: str, is_main: bool) -> str:
    """Where the verdict holds, and by how much: a factor, or the median and range of several."""
    found = counts.of(verdict)
    text = f" in {_where(counts, len(found)) if is_main else len(found)}"
    names = [counts.name_of(case) for case, _ in found]
    named = counts.total > 1 and len(names) <= MOST_NAMES and not (is_main and len(names) > 1)
    if verdict in ("faster", "slower"):
        return text + _factors(counts, found, names if named else [])
    if verdict == "undecided":
        return text + _more_of_undecided(found)
    return f"{text} ({', '.join(names)})" if named else text


def _factors(
    counts: Counts, found: Sequence[tuple[CaseSummary, Line]], names: Sequence[str]
) -> str:
    words = counts.words
    ratios = [line.ratio for _, line in found if line.ratio is not None]
    factors = sorted(words.factor(ratio.median) for ratio in ratios)
    if counts.total == 1:
        low, high = sorted((words.factor(ratios[0].low), words.factor(ratios[0].high)))
        return f", {_number(factors[0])} {words.times}{_range(low, high)}"
    if len(factors) == 1:
        name = f"{names[0]}, " if names else ""
        return f" ({name}{_number(factors[0])} {words.times})"
    text = f"{_number(median(factors))} {words.times} in the median"
    text += _range(factors[0], factors[-1])
    return f" ({', '.join(names)}), {text}" if names else f", {text}"


def _more_of_undecided(found: Sequence[tuple[CaseSummary, Line]]) -> str:
    """The reason, if it is the number of rounds; else the verdicts by processor time."""
    if all(line.rounds < MIN_ROUNDS for _, line in found):
        return f", because fewer than {MIN_ROUNDS} rounds decide nothing"
    less = sum(line.cpu_verdict == "less" for _, line in found)
    more = sum(line.cpu_verdict == "more" for _, line in found)
    if not less and not more:
        return ""
    if len(found) == 1:
        return f" ({'less' if less else 'more'} processor time)"
    if less and more:
        return f" (less processor time in {less}, more in {more})"
    return f" ({'less' if less else 'more'} processor time in {less or more})"


def _range(low: float, high: float) -> str:
    texts = _number(low), _number(high)
    return "" if texts[0] == texts[1] else f" ({texts[0]} to {texts[1]})"


def _number(value: float) -> str:
    """Two decimals, and more of them for a factor that would be shown as 1.00 or 0.00."""
    if value >= 10:
        return f"{value:,.0f}"
    text = f"{value:.2f}"
    if text == "1.00" and value != 1:
        return f"{value:.3f}"
    return text if text != "0.00" else f"{value:.2g}"
