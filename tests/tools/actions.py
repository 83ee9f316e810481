"""Check that each action in .github/workflows is pinned by a hash, with its version in a comment.

A tag or a branch can be moved, so that its content changes without a commit here: such a pin is
listed, and ends with status 1. The comment tells a reader which version the hash is, and dependabot
renews it together with the hash.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"
_USES = re.compile(r"^\s*(?:- )?uses:\s*(\S.*?)\s*$", re.MULTILINE)
_BY_HASH = re.compile(r"[^@\s]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def kind_of(use: str) -> str:
    """How *use*, all that follows "uses:" in its line, is pinned.

    The answer is "hash", "no version" for a hash without a version, "local" or "no hash".
    """
    if use.startswith("./"):
        return "local"
    if _BY_HASH.fullmatch(use):
        return "hash"
    return "no version" if re.search(r"@[0-9a-f]{40}\b", use) else "no hash"


def used() -> dict[str, list[str]]:
    """Each use of an action in the workflows, with the files that have it."""
    found: dict[str, list[str]] = {}
    for path in sorted(WORKFLOWS.glob("*.y*ml")):
        for use in _USES.findall(path.read_text(encoding="utf-8")):
            names = found.setdefault(use, [])
            if path.name not in names:
                names.append(path.name)
    return found


def problems(uses: dict[str, list[str]]) -> list[str]:
    """A line for each use that is not pinned well, and for each action with more than one pin."""
    found = []
    pins: dict[str, set[str]] = {}
    for use, files in sorted(uses.items()):
        kind = kind_of(use)
        if kind not in ("hash", "local"):
            found.append(f"{kind}: {use}  ({', '.join(files)})")
        if kind != "local":
            pins.setdefault(use.partition("@")[0], set()).add(use)
    found += [f"{len(pins[name])} pins: {name}" for name in sorted(pins) if len(pins[name]) > 1]
    return found


def main() -> int:
    found = problems(used())
    for line in found:
        print(line)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
