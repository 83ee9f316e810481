"""docs/frameworks.md and the tests of its lines name each other."""

from __future__ import annotations

from tests.frameworks import test_page_programs, test_page_servers, test_pytest_plugin
from tests.frameworks.page import LINES, PAGE, tables


def test_every_line_names_a_test_and_every_test_has_its_line() -> None:
    tests = {
        f"{group}[{name}]"
        for group, cases in (
            ("servers", test_page_servers.CASES),
            ("programs", test_page_programs.CASES),
            ("plugins", test_pytest_plugin.TESTS),
        )
        for name in cases
    }
    assert tests == set(LINES)


def test_tables_have_at_most_ten_rows_and_no_row_is_overlooked() -> None:
    rows = [len(table) for table in tables()]
    assert max(rows) <= 10
    assert sum(rows) == len(LINES)
    beside = [text for text in PAGE.read_text().splitlines() if text.startswith("|")]
    assert len(beside) == sum(rows) + 2 * len(rows)     # two lines of a table are its head
