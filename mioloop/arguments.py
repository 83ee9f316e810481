"""Command lines: a mistake is answered with the valid names and a suggestion."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn


def unknown(what: str, name: str, valid: Sequence[str]) -> str:
    """The message for a name that is not in *valid*: the name probably meant, and all names."""
    close = difflib.get_close_matches(name, valid, 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"there is no {what} {name!r}{meant}\nthe {what}s are {', '.join(valid)}"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that takes no abbreviated options. Its errors list the valid options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the result of parse_args(). A mistake ends the process with status 2."""
        found, unknown = self.parse_known_intermixed_args(arguments)
        for argument in unknown:
            if argument.startswith("-"):
                self.refuse("option", argument.partition("=")[0], self.options())
        if unknown:
            self.error(f"there is no use for {' '.join(unknown)}")
        return found

    def options(self) -> list[str]:
        return [name for name in self._option_string_actions if name.startswith("--")]

    def refuse(self, what: str, name: str, valid: Sequence[str]) -> NoReturn:
        """End the process with an error that lists the valid names, and the name probably meant."""
        self.error(unknown(what, name, valid))

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(2)
