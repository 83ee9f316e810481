"""The check of the prose: it counts riddle words in prose, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import prose


@pytest.mark.parametrize(
    "text",
    [
        "What the system does not take waits.",
        "Whoever asks is told.",
        "bytes of *data*: those of an earlier time",
        "a block for small reads, nobody's, or one of its own",
        "Likewise, of a BufferedProtocol.",
        "the same as before",
        "It has the same.",
        "The price is higher than is that of the others.",
        "one that is large, as above",
    ],
)
def test_riddle_is_counted(text: str) -> None:
    assert prose.riddles_of(text)[1]


@pytest.mark.parametrize(
    "text",
    [
        "Return a bytes object with the contents of *data*.",
        "All large reads share the same spare object.",
        "Those transports are closed first.",
        "The other loops follow.",
        "But what happens if the callback closes the transport?",
        'The message is "what else", and the name is `whose`.',
        "See <https://example.org/what>.",
        "The value is that object.",
    ],
)
def test_plain_sentence_is_not_counted(text: str) -> None:
    assert prose.riddles_of(text)[1] == []


@pytest.mark.parametrize(
    ("name", "text", "words", "lines"),
    [
        ("x.py", '"""What is here."""\nx = "what"  # likewise\ny = """\nwhat\n"""\n', 4, [1, 2]),
        ("x.pyx", "cdef f(): # what\n    # a piece of the same\n    # thing\n", 7, [1]),
        ("x.py", "f(\n    '''what\n    '''\n)\n\n\ndef test_what_is_left(): pass\n", 3, [7]),
        ("x.c", 'char *x = "what"; /* What is\n * it. */ // whose\n', 4, [1, 2]),
        ("x.c", "static void test_what_is_left(void)\n", 3, [1]),
        ("x.md", "# What\n\n```\nwhat\n```\n\nof `what`\n", 2, [1]),
    ],
)
def test_only_prose_is_read(
    tmp_path: Path, name: str, text: str, words: int, lines: list[int]
) -> None:
    path = tmp_path / name
    path.write_text(text)
    report = prose.report_on(path, name)

    assert [line for line, _ in report.riddles] == lines
    assert report.words == words


def test_one_word_is_always_allowed_and_three_in_a_thousand_after_it() -> None:
    assert not prose.Report("x", 100, [(1, "what")]).is_too_high
    assert prose.Report("x", 100, [(1, "what")] * 2).is_too_high
    assert not prose.Report("x", 1000, [(1, "what")] * 3).is_too_high
    assert prose.Report("x", 1000, [(1, "what")] * 4).is_too_high


def test_command_fails_for_a_file_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.py"
    path.write_text("# What was read, and who has read it.\n")

    assert prose.main([str(path)]) == 1
    assert "TOO HIGH" in capsys.readouterr().out
    path.write_text("# The bytes, and their reader.\n")
    assert prose.main([str(path)]) == 0


def test_finished_rooms_are_in_plain_words() -> None:
    assert prose.main([str(prose.ROOT / name) for name in prose.FINISHED]) == 0
