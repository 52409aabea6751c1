"""The notation page, from the one table ``book/notation.yml``."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml


class Entry(NamedTuple):
    """One row: the page's ``symbol``, the ``code`` name, the ``meaning``, its first ``chapter``."""

    symbol: str
    code: str
    meaning: str
    chapter: str


def entries(root: Path) -> list[Entry]:
    """The rows of the table."""
    rows = yaml.safe_load((root / "book" / "notation.yml").read_text("utf-8"))
    return [Entry(**row) for row in rows]


def page(root: Path) -> str:
    """The table as Markdown."""
    lines = ["| symbol | in code | meaning | first used |", "|---|---|---|---|"]
    for symbol, code, meaning, chapter in entries(root):
        code_text = f"`{code}`" if code else ""
        lines.append(f"| ${symbol}$ | {code_text} | {meaning} | {{doc}}`/book/{chapter}` |")
    return "\n".join(lines)
