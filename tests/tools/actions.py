"""List the actions in .github/workflows that are not pinned by a hash.

A hash cannot be looked up without access to the hosts of the actions, so a full version tag is
accepted, and listed. Any other reference, such as a branch or "v5", ends with status 1: its
content changes without a commit here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"
_USES = re.compile(r"^\s*(?:- )?uses:\s*([^\s#]+)", re.MULTILINE)


def kind_of(action: str) -> str:
    """How *action* is pinned: "hash", "tag", "local" or "no pin"."""
    if action.startswith("./"):
        return "local"
    _, _, reference = action.partition("@")
    if re.fullmatch(r"[0-9a-f]{40}", reference):
        return "hash"
    return "tag" if re.fullmatch(r"v\d+\.\d+\.\d+", reference) else "no pin"


def used() -> dict[str, list[str]]:
    """Each action of the workflows, with the files that use it."""
    found: dict[str, list[str]] = {}
    for path in sorted(WORKFLOWS.glob("*.yml")):
        for action in _USES.findall(path.read_text(encoding="utf-8")):
            names = found.setdefault(action, [])
            if path.name not in names:
                names.append(path.name)
    return found


def main() -> int:
    failed = False
    for action, files in sorted(used().items()):
        kind = kind_of(action)
        if kind in ("tag", "no pin"):
            print(f"{kind:7} {action}  ({', '.join(files)})")
        failed |= kind == "no pin"
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
