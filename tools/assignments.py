"""The exercises page: each chapter's assignment with its problems and their points."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tools.project import pages

TITLE = re.compile(r"^# (?:Assignment: )?(.+)$", re.MULTILINE)
PROBLEM = re.compile(r"^## Problem \d+: (?P<title>.+?) \((?P<points>\d+) points?\)$", re.MULTILINE)


class Assignment(NamedTuple):
    """An assignment: ``name`` (``convex/mirror_maps``), ``title``, problems with their points."""

    name: str
    title: str
    problems: list[tuple[str, int]]


def assignments(root: Path) -> list[Assignment]:
    """The assignments of the book's chapters, in reading order.

    Raises:
        ValueError: an assignment without a title or without problems.
    """
    found = []
    for chapter in pages(root):
        name = chapter.removeprefix("book/")
        path = root / "exercises" / f"{name}.md"
        if not path.exists():
            continue
        text = path.read_text("utf-8")
        title, problems = TITLE.search(text), PROBLEM.findall(text)
        if title is None or not problems:
            raise ValueError(f"{path}: expected a title and '## Problem N: TITLE (P points)'")
        found.append(Assignment(name, title[1], [(t, int(points)) for t, points in problems]))
    return found


def page(root: Path) -> str:
    """The list as Markdown."""
    lines = []
    for name, title, problems in assignments(root):
        short = name.rpartition("/")[2]
        total = sum(points for _, points in problems)
        lines += [
            f"(assignment-{short.replace('_', '-')})=",
            f"## {title[0].upper()}{title[1:]}",
            "",
        ]
        lines += [
            f"{len(problems)} problems, {total} points, for the chapter {{doc}}`/book/{name}`."
        ]
        lines += [f"In the repository: `exercises/{name}.md`; in a course: `{short}`.", ""]
        lines += ["| problem | points |", "|---|---|"]
        lines += [f"| {problem} | {points} |" for problem, points in problems]
        lines.append("")
    return "\n".join(lines) if lines else "No chapter has an assignment yet."
