"""Check the built documentation: links inside the site lead somewhere, and no page loads anything
from another host.

Usage: python tests/tools/check_site.py build/docs
"""

from __future__ import annotations

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Elements whose address the browser fetches without a click.
FETCHED = {
    "script": ("src",), "img": ("src", "srcset"), "iframe": ("src",), "source": ("src", "srcset"),
    "video": ("src",), "audio": ("src",), "object": ("data",), "embed": ("src",), "link": ("href",),
}
_CSS_ADDRESS = re.compile(
    r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)|@import\s+['\"]((?:https?:)?//[^'\"]+)"
)


class Page(HTMLParser):
    """The anchors of one page, its links, and the addresses that it fetches."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        text = path.read_text(encoding="utf-8")
        self.feed(text)
        self.fetched += [one or other for one, other in _CSS_ADDRESS.findall(text)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        self.anchors.update(found[name] for name in ("id", "name") if name in found)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        for name in FETCHED.get(tag, ()):
            if name in found and found.get("rel") not in ("canonical", "author"):
                self.fetched.append(found[name])


@cache
def page_of(path: Path) -> Page:
    return Page(path)


def is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def problem_of(page: Path, address: str) -> str | None:
    """The reason why a link or an address of *page* leads nowhere, or None."""
    parts = urlsplit(address)
    if parts.scheme in ("http", "https", "mailto", "data") or not (parts.path or parts.fragment):
        return None
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists():
        return f"{address}: there is no such file"
    if parts.fragment and target.suffix == ".html":
        if unquote(parts.fragment) not in page_of(target).anchors:
            return f"{address}: the page has no such place"
    return None


def problems_of(site: Path) -> list[str]:
    found = []
    for path in sorted(site.rglob("*.html")):
        if "_downloads" in path.parts:
            continue
        page = page_of(path.resolve())
        addresses = [*page.links, *(each for each in page.fetched if not is_elsewhere(each))]
        problems = [problem_of(path.resolve(), each) for each in dict.fromkeys(addresses)]
        problems += [f"{each}: is on another host" for each in page.fetched if is_elsewhere(each)]
        found += [f"{path.relative_to(site)}: {problem}" for problem in problems if problem]
    for path in sorted(site.rglob("*.css")):
        text = path.read_text(encoding="utf-8")
        found += [
            f"{path.relative_to(site)}: {one or other}: is on another host"
            for one, other in _CSS_ADDRESS.findall(text)
        ]
    return found


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not (site := Path(arguments[0])).is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    problems = problems_of(site)
    print("\n".join(problems), end="\n" if problems else "")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
