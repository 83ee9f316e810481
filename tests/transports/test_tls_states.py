"""The states of a TLS connection: each table walked whole, and printed in ARCHITECTURE.md."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from mioloop.transports.tls_states import may_follow, tables

DOCUMENT = Path(__file__).parents[2] / "ARCHITECTURE.md"


@pytest.mark.parametrize("name", tables())
def test_a_step_is_allowed_exactly_where_the_table_has_it(name):
    table = tables()[name]
    for (i, before), (j, after) in itertools.product(enumerate(table), repeat=2):
        assert may_follow(table, i, j) == (after in table[before] or after == before)


@pytest.mark.parametrize("name", tables())
def test_every_state_is_reached_from_the_first(name):
    table = tables()[name]
    reached, found = set(), [next(iter(table))]
    while found:
        state = found.pop()
        reached.add(state)
        found += set(table[state]) - reached
    assert reached == set(table)


@pytest.mark.parametrize(("name", "last"), [
    ("session", "LOST"), ("incoming", "EXHAUSTED"), ("told", "CONNECTION_LOST")])
def test_one_state_is_the_last_and_can_always_be_reached(name, last):
    table = tables()[name]
    assert [state for state, following in table.items() if not following] == [last]
    for state in table:
        while table[state]:
            state = table[state][-1]
        assert state == last


def test_a_lost_connection_is_possible_at_once_in_every_state():
    table = tables()["session"]
    assert all("LOST" in following for state, following in table.items() if state != "LOST")


@pytest.mark.parametrize("name", tables())
def test_the_document_has_the_table(name):
    rows = [f"| {state} | {', '.join(following) or '-'} |"
            for state, following in tables()[name].items()]
    printed = "\n".join(["| state | may become |", "|---|---|", *rows])
    text = DOCUMENT.read_text()
    title = re.search(rf"^\*\*TLS: {name}\*\*.*$", text, re.MULTILINE)
    assert title is not None, f"write a paragraph **TLS: {name}** before this table:\n{printed}"
    assert text[title.end():].lstrip("\n").startswith(printed + "\n"), f"it should be:\n{printed}"
