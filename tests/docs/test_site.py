"""The documentation has every public name, its links lead somewhere, and the README is a door."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import mioloop
from mioloop import mio
from tests.docs.pages import DOCS, ROOT, pages
from tests.tools import check_site

_LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def own_methods() -> list[str]:
    """The public methods and attributes that a loop of mioloop has and asyncio's has not."""
    import asyncio

    internal = {"check_token", "is_armed", "slow_callback_duration"}
    of_3_11 = {"sock_recvfrom", "sock_recvfrom_into", "sock_sendto"}  # asyncio has none in 3.10
    own = set(dir(mioloop.EventLoop)) - set(dir(asyncio.SelectorEventLoop)) - internal - of_3_11
    return sorted(name for name in own if not name.startswith("_"))


def described(page: str) -> set[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return set(re.findall(r"^ *\.\. (?:auto)?\w+:: ([\w.]+)", text, re.MULTILINE))


def test_the_reference_has_every_public_name_of_the_package() -> None:
    assert {*mioloop.__all__, *own_methods(), "EventLoopPolicy", "install"} - {"mio"} <= described(
        "api.md"
    )


def test_the_reference_has_every_public_name_of_mio() -> None:
    names = {*mio.__all__, *mio.net.__all__, *mio.unix.__all__} - {"net", "unix"}
    assert names <= described("api-mio.md")


@pytest.mark.parametrize("page", pages())
def test_links_to_files_lead_somewhere(page: str) -> None:
    """The links that work in the repository, where no site is built."""
    path = ROOT / page
    text = _CODE.sub("", path.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if link.startswith(("http:", "https:")):
            continue
        file, _, place = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{page}: {link}"
        if place and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
            assert place in slugs, f"{page}: {link}"


def test_the_readme_is_short_and_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [len(table.splitlines()) - 2 for table in re.findall(r"(?:^\|[^\n]*\n)+", text, re.M)]
    assert max(rows) <= 10
    assert "\nmake run " in text and "\nmake test " in text
    assert "pip install mioloop" in text and "mioloop.run(main())" in text
    assert len(text.splitlines()) < 100


# -- the checker of the built site ---------------------------------------------------------------


def problems(tmp_path: Path, body: str) -> list[str]:
    (tmp_path / "other.html").write_text("<p id='here'>there</p>")
    (tmp_path / "page.html").write_text(body)
    return check_site.problems_of(tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        "<a href='other.html#here'>", "<a href='https://example.org/'>", "<img src='other.html'>",
        "<a href='#top'><p id='top'>", "<a href='mailto:a@b'>",
    ],
)
def test_a_sound_page_has_no_problem(tmp_path: Path, body: str) -> None:
    assert problems(tmp_path, body) == []


@pytest.mark.parametrize(
    "body",
    [
        "<a href='none.html'>", "<a href='other.html#none'>", "<a href='#none'>",
        "<script src='https://example.org/x.js'></script>", "<img src='//example.org/x.png'>",
        "<link rel='stylesheet' href='https://example.org/x.css'>",
        "<style>@import 'https://example.org/x.css';</style>",
        "<p style='background: url(https://example.org/x.png)'>",
    ],
)
def test_broken_links_and_other_hosts_are_found(tmp_path: Path, body: str) -> None:
    assert len(problems(tmp_path, body)) == 1


@pytest.mark.slow
@pytest.mark.unsanitized("Sphinx is no part of mioloop")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for package in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q",
         "-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "site")],
        capture_output=True, text=True, timeout=110, cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert check_site.problems_of(tmp_path / "site") == []
