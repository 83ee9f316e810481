"""Print the version of the package. With a tag, end with status 1 if it is of another version.

Usage: python tests/tools/version.py [TAG]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HOME = Path(__file__).parents[2] / "mioloop" / "__init__.py"


def version() -> str:
    found = re.search(r'^__version__ = "([^"]+)"$', HOME.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{HOME} has no line __version__ = ...")
    return found[1]


def main(arguments: list[str]) -> int:
    print(version())
    if arguments and arguments[0] != f"v{version()}":
        print(f"the tag {arguments[0]} is not v{version()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
