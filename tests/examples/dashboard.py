"""The queries of examples/observe/dashboard.json."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "examples/observe/dashboard.json"


@dataclass(frozen=True)
class Query:
    panel: str
    ref: str
    expression: str
    legend: str

    def __str__(self) -> str:
        return f"{self.panel}-{self.ref}"

    def of(self, **variables: str) -> str:
        """The expression with the values of the dashboard's variables."""
        text = self.expression.replace("$__rate_interval", "30s")
        for name, value in variables.items():
            text = text.replace(f"${name}", value)
        assert "$" not in text, text
        return text

    def names(self) -> set[str]:
        """The metrics of the expression."""
        return set(re.findall(r"\basyncio_\w+", self.expression))


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return loaded


def queries() -> list[Query]:
    return [
        Query(panel["title"], target["refId"], target["expr"], target["legendFormat"])
        for panel in dashboard()["panels"]
        for target in panel["targets"]
    ]
