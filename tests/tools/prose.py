"""Count the riddle words in comments, docstrings, documents and names of tests.

A riddle word stands for something that the reader has to find: "what was not taken", "those of
the last", "whoever asks", "likewise". A sentence with a noun as its subject does not need one.
This program prints the rate per 1,000 words of each file that has any, and ends with status 1 if
a file of a finished directory exceeds `MAX_RATE`. For comparison: aiohttp
has 0.6, CPython's headers and asyncio have 0.8, trio 2.2 and h11 2.5.

Usage: python tests/tools/prose.py [-v] [PATH ...]
    -v      also print each riddle word with its line
    PATH    files or directories; default: every file that git tracks. A PATH is judged as finished.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

MAX_RATE = 3.0          # riddle words per 1,000; one word is always allowed

# A directory or file is added to this list when it has been rewritten.
FINISHED = (
    "mioloop/compare/", "mioloop/loop/", "mioloop/reactor/", "mioloop/transports/",
    "mioloop/__init__.py",
    "mioloop/__main__.py", "mioloop/arguments.py", "mioloop/doctor.py", "mioloop/factory.py",
    "mioloop/launch.py", "mioloop/options.py", "mioloop/policy.py", "mioloop/stdlib.py",
    "mioloop/core/", "mioloop/mio/",
    "tests/compare/", "tests/examples/", "tests/faults/", "tests/frameworks/", "tests/fuzz/",
    "tests/loop/", "tests/mio/", "tests/services/", "tests/stdlib/", "tests/support/",
    "tests/tools/",
    "tests/transports/", "tests/__init__.py", "tests/README.md", "tests/compatibility.py",
    "tests/conftest.py", "tests/rules.py", "tests/test_architecture.py",
    "tests/test_compatibility.py", "tests/test_extension_types.py", "examples/", "ARCHITECTURE.md",
    "README.md", "CHANGELOG.md", "docs/", ".github/", "tests/docs/",
)

# Printed by a program, or the text of a standard licence.
GENERATED = ("docs/benchmarks/", "docs/compatibility.md")

# -- riddle words ------------------------------------------------------------------------------

# A pronoun or "the same" is a riddle only where no noun follows it: "those of the last read", not
# "those reads". The words below follow a pronoun that stands alone; so does punctuation.
_NO_NOUN = (
    r"(?=\s*(?:[.,:;)!?]|\Z|--)|\s+(?:a|an|and|any|are|as|at|be|but|by|can|did|do|does|for|from|had|"
    r"has|have|he|if|in|into|is|it|its|may|must|no|not|of|on|one|or|our|out|so|than|that|the|their|"
    r"then|there|they|this|to|under|was|we|were|when|where|which|while|who|whose|will|with|"
    r"without|you)\b)"
)

RIDDLES = re.compile(
    r"\b(?:"
    r"what|whatever|who|whom|whoever|whomever|whose"        # a clause instead of a noun
    r"|nobody|somebody|anybody|everybody"                   # a person instead of a part
    r"|others|ours|theirs"                                  # a possessive instead of a noun
    r"|likewise|as (?:above|below|ever)"                    # a reference without its target
    r"|(?:has|have|had|is|are|with|by) that of"
    r"|(?:one|some) of (?:its|their|our) own"
    r"|(?:its|their|the|our) (?:like|kin)" + _NO_NOUN +
    r"|(?:those|the same)" + _NO_NOUN +
    r")\b",
    re.IGNORECASE | re.MULTILINE,
)

# A question is no riddle, and neither is a quotation of a word.
_QUESTION = re.compile(r"\b(?:what|who|whose)\b[^.?!]*\?", re.IGNORECASE)
_QUOTED = re.compile(r"``[^`]*``|`[^`\n]*`|\"[^\"]{0,80}\"|https?://\S+|<[^>\n]*>")
_WORD = re.compile(r"[A-Za-z][A-Za-z']*")


def riddles_of(text: str) -> tuple[int, list[tuple[int, str]]]:
    """The number of words, and each riddle word with the offset at which it stands."""
    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    plain = _QUOTED.sub(blank, text)
    words = len(_WORD.findall(plain))
    plain = _QUESTION.sub(blank, plain)
    return words, [(each.start(), each[0]) for each in RIDDLES.finditer(plain)]


# -- prose of a file ---------------------------------------------------------------------------

_PYTHON = re.compile(
    r"(?P<comment>\#[^\n]*)"
    r"|(?P<doc>(?:(?<=\n)|^)[ \t]*[rR]?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''))"
    r"|(?P<string>\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''"
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|(?P<bracket>[()\[\]{}])",
    re.DOTALL,
)
_C = re.compile(
    r"(?P<comment>/\*.*?\*/|//[^\n]*)|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL
)
_MARKDOWN_CODE = re.compile(
    r"^```.*?^```[^\n]*$|^ {4,}[^\n]*$|<!--.*?-->", re.DOTALL | re.MULTILINE
)
_TEST_NAME = re.compile(
    r"^[ \t]*(?:async )?def test_(\w+)|^static void test_(\w+)\(", re.MULTILINE
)
_DECORATION = re.compile(
    r"^[ \t]*(?:#|/?\*+/?|//)|\*/|[-=]{3,}|[rR]?\"\"\"|[rR]?'''", re.MULTILINE
)


def _python_prose(text: str) -> Iterator[tuple[int, str]]:
    depth = 0
    for match in _PYTHON.finditer(text):
        if match["bracket"]:
            depth += 1 if match["bracket"] in "([{" else -1
        elif match["comment"] or (match["doc"] and depth == 0):
            yield match.start(), match[0]


def prose_of(path: Path) -> list[tuple[int, str]]:
    """The pieces of prose in a file, each with the offset at which it begins.

    Comments on consecutive lines are one piece, so that a sentence is not cut.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".md":
        text = _MARKDOWN_CODE.sub(lambda each: re.sub(r"[^\n]", " ", each[0]), text)
        return [(0, text)]
    if path.suffix in (".c", ".h"):
        found = [(each.start(), each[0]) for each in _C.finditer(text) if each["comment"]]
    else:
        found = list(_python_prose(text))
    pieces: list[tuple[int, str]] = []
    for at, piece in found:
        if pieces and not text[pieces[-1][0] + len(pieces[-1][1]) : at].strip():
            first, before = pieces.pop()
            at, piece = first, before + text[first + len(before) : at] + piece
        pieces.append((at, piece))
    return [
        (at, _DECORATION.sub(lambda each: " " * len(each[0]), piece)) for at, piece in pieces
    ] + [
        (each.start(), (each[1] or each[2]).replace("_", " ") + ".")
        for each in _TEST_NAME.finditer(text)
    ]


@dataclass
class Report:
    """The riddle words of one file."""

    name: str
    words: int = 0
    riddles: list[tuple[int, str]] = field(default_factory=list)    # line and word

    @property
    def rate(self) -> float:
        return len(self.riddles) / self.words * 1000 if self.words else 0.0

    @property
    def is_too_high(self) -> bool:
        return len(self.riddles) > max(1.0, self.words * MAX_RATE / 1000)


def report_on(path: Path, name: str) -> Report:
    report = Report(name)
    text = path.read_text(encoding="utf-8", errors="replace")
    for at, piece in prose_of(path):
        words, riddles = riddles_of(piece)
        report.words += words
        report.riddles += [(text.count("\n", 0, at + offset) + 1, word) for offset, word in riddles]
    return report


# -- the command -------------------------------------------------------------------------------

SUFFIXES = (".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".md")


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    found = [ROOT / name for name in listed.split("\0") if name.endswith(SUFFIXES)]
    return [path for path in found if path.exists() and not is_printed(path)]


def is_printed(path: Path) -> bool:
    """Whether a program prints the file."""
    inside = path.resolve()
    return ROOT in inside.parents and inside.relative_to(ROOT).as_posix().startswith(GENERATED)


def expanded(arguments: list[str]) -> list[Path]:
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [each for each in inside if each.suffix in SUFFIXES and not is_printed(each)]
    return found


def main(arguments: list[str]) -> int:
    verbose = "-v" in arguments
    named = expanded([each for each in arguments if each != "-v"])
    reports = []
    for path in named or tracked():
        absolute = path.resolve()
        inside = ROOT in absolute.parents
        name = absolute.relative_to(ROOT).as_posix() if inside else str(path)
        reports.append(report_on(path, name))
    failed = []
    for report in sorted(reports, key=lambda each: (-each.rate, each.name)):
        finished = bool(named) or report.name.startswith(FINISHED)
        if finished and report.is_too_high:
            failed.append(report.name)
        if report.riddles:
            mark = "  TOO HIGH" if report.name in failed else ""
            count = len(report.riddles)
            print(f"{report.rate:7.1f}  {count:4} of {report.words:6,}  {report.name}{mark}")
        if verbose:
            for line, word in sorted(report.riddles):
                print(f"{'':22}{report.name}:{line}: {' '.join(word.split())}")
    words = sum(each.words for each in reports)
    count = sum(len(each.riddles) for each in reports)
    rate = count / words * 1000 if words else 0.0
    clean = sum(not each.riddles for each in reports)
    print(f"{rate:7.1f}  {count:4} of {words:6,}  riddle words per 1,000; {clean} files have none")
    if failed:
        print(f"more than {MAX_RATE:g} in 1,000: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
