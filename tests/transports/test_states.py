"""The states of a transport: the tables are whole, printed, and what the setters assert."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mioloop.transports.states import TABLES, may_follow

ROOT = Path(__file__).parents[2]
PREFIXES = {
    "Life": "LIFE", "ReadState": "READ", "WriteState": "WRITE", "PrefetchState": "PREFETCH"
}  # fmt: skip


@pytest.mark.parametrize("machine", TABLES)
def test_a_table_has_the_states_of_its_enum_in_their_order(machine):
    sources = ROOT / "mioloop" / "transports"
    text = "".join((sources / name).read_text() for name in ("states.pxd", "prefetch.pxd"))
    body = re.search(rf"^cdef enum {machine}:\n((?:    [^\n]*\n)+)", text, re.MULTILINE)[1]
    states = re.findall(rf"^    {PREFIXES[machine]}_(\w+)", body, re.MULTILINE)
    assert states == list(TABLES[machine])


@pytest.mark.parametrize("machine", TABLES)
def test_the_first_state_leads_to_every_state(machine):
    table = TABLES[machine]
    reached, unseen = set(), [next(iter(table))]
    while unseen:
        state = unseen.pop()
        reached.add(state)
        unseen += [each for each in table[state] if each not in reached]
    assert reached == set(table)


@pytest.mark.parametrize("machine", TABLES)
def test_only_the_steps_of_the_table_may_be_taken(machine):
    table = TABLES[machine]
    names = list(table)
    for i, before in enumerate(names):
        for k, state in enumerate(names):
            assert may_follow(machine, i, k) == (i == k or state in table[before])


def test_a_transport_ends_once():
    assert TABLES["Life"]["CLOSED"] == ()
    assert [state for state, after in TABLES["Life"].items() if "CLOSED" in after] == ["LOST"]


def test_the_architecture_prints_these_tables():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    printed: dict[str, dict[str, tuple[str, ...]]] = {}
    for machine, state, after in re.findall(
        rf"^\| ({'|'.join(TABLES)}) \| (\w+) \| ([\w, -]+) \|", text, re.MULTILINE
    ):
        printed.setdefault(machine, {})[state] = tuple(re.findall(r"\w+", after))
    assert printed == TABLES
