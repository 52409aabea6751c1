"""The theorem ledger: each statement of the book, its source, its tests and its check cells."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import nbformat

from tools.execute import notebook_path
from tools.project import chapters, pages, source_of
from tools.tight import recorded, verdict

KINDS = ("bound", "equality", "mutant")
STATEMENT = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{prf:(?P<type>theorem|lemma|proposition|corollary)\}"
    r"[ \t]*(?P<title>[^\n]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
EQUATION = re.compile(r"^\$\$[ \t]*\((?P<label>[\w-]+)\)[ \t]*$", re.MULTILINE)
MATH_DIRECTIVE = re.compile(r"\{math\}[^\n]*\n:label:[ \t]*([\w-]+)")
OTHER_STATEMENT = re.compile(r"\{prf:\w+\}[^\n]*\n:label:[ \t]*([\w-]+)")
TARGET = re.compile(r"^\(([\w-]+)\)=[ \t]*$|^[ \t]*name:[ \t]*([\w-]+)[ \t]*$", re.MULTILINE)
CITATION = re.compile(r"\{cite[:\w]*\}`(?P<keys>[^`]+)`")


class Statement(NamedTuple):
    """A labelled statement: its ``label``, ``type``, ``title``, the ``page`` and its ``source``."""

    label: str
    type: str
    title: str
    page: str
    source: str


class Check(NamedTuple):
    """What a check cell reported: ``kind`` (bound or identity), ``instances``, ``worst``."""

    label: str
    kind: str
    instances: int
    worst: float


def statements(root: Path) -> list[Statement]:
    """Every theorem, lemma, proposition and corollary of the book, in reading order.

    The source of a statement is the first citation inside its directive, title included, else
    the first in the paragraph after it; without one the ledger says that the book proves it.

    Raises:
        ValueError: a statement without a label.
    """
    found = []
    for page in pages(root):
        text = source_of(root, page)
        for match in STATEMENT.finditer(text):
            label = re.search(r"^:label:[ \t]*([\w-]+)[ \t]*$", match["body"], re.MULTILINE)
            if label is None:
                raise ValueError(f"{page}.md: the {match['type']} {match['title']!r} has no label")
            after = re.split(r"\n\s*\n", text[match.end() :].lstrip("\n"), maxsplit=1)[0]
            after = "" if after.startswith(("`", ":", "#", "$")) else after
            citation = CITATION.search(f"{match['title']}\n{match['body']}\n{after}")
            source = citation[0] if citation else "proved here"
            title = CITATION.sub("", match["title"]).strip(" ,;()")
            found.append(Statement(label[1], match["type"], title, page, source))
    return found


def labels_of_book(root: Path) -> dict[str, str]:
    """Every label of the book's pages: ``equation``, ``statement`` or ``target``."""
    labels: dict[str, str] = {}
    for page in pages(root):
        text = source_of(root, page)
        labels |= dict.fromkeys((a or b for a, b in TARGET.findall(text)), "target")
        labels |= dict.fromkeys(OTHER_STATEMENT.findall(text), "statement")
        labels |= dict.fromkeys(EQUATION.findall(text), "equation")
        labels |= dict.fromkeys(MATH_DIRECTIVE.findall(text), "equation")
    return labels


def marked_tests(root: Path) -> dict[str, Counter[str]]:
    """For each label, how many tests of each kind are marked with it.

    Raises:
        ValueError: a mark that is not two literal texts, or of an unknown kind.
    """
    found: dict[str, Counter[str]] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for mark in _marks(tree):
            values = [arg.value for arg in mark.args if isinstance(arg, ast.Constant)]
            where = f"{path.relative_to(root)}:{mark.lineno}"
            if len(values) != 2 or not all(isinstance(value, str) for value in values):
                raise ValueError(f"{where}: expected theorem(label, kind) with two texts")
            label, kind = map(str, values)
            if kind not in KINDS:
                raise ValueError(f"{where}: expected a kind of {KINDS}, got {kind!r}")
            found.setdefault(label, Counter())[kind] += 1
    return found


def checks(root: Path) -> list[Check]:
    """What the check cells of the executed chapters reported."""
    found = []
    for page in chapters(root):
        path = notebook_path(root, page)
        if not path.exists():
            continue
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                for entry in output.get("metadata", {}).get("mdtheory_check", []):
                    worst = entry["worst"]
                    number = math.nan if worst is None else float(worst)
                    found.append(
                        Check(entry["label"], entry["kind"], int(entry["instances"]), number)
                    )
    return found


def faults(root: Path) -> list[str]:
    """All that is wrong with the ledger; empty in a finished book."""
    stated = statements(root)
    labels = [statement.label for statement in stated]
    tests, checked = marked_tests(root), {check.label for check in checks(root)}
    found = [f"{label}: stated twice" for label, n in Counter(labels).items() if n > 1]
    found += [f"{label}: a test is marked with it, no page states it" for label in tests
              if label not in labels]  # fmt: skip
    found += [f"{label}: a cell checks it, no page states it" for label in sorted(checked)
              if label not in labels]  # fmt: skip
    for label in labels:
        kinds = tests.get(label, Counter())
        found += [f"{label}: no test of kind {kind}" for kind in ("equality", "mutant")
                  if not kinds[kind]]  # fmt: skip
        if label not in checked:
            found.append(f"{label}: no check cell in its chapter")
    return found


def page(root: Path) -> str:
    """The ledger as Markdown."""
    stated = statements(root)
    if not stated:
        return "No chapter states a theorem yet."
    tests, reported, hardest = marked_tests(root), checks(root), recorded(root)
    lines = [
        "| statement | source | tests | checked on the page | hardest instance |",
        "|---|---|---|---|---|",
    ]
    for statement in stated:
        kinds = tests.get(statement.label, Counter())
        counts = ", ".join(_counted(kinds[kind], kind) for kind in KINDS if kinds[kind])
        cells = "<br>".join(
            _unbroken(_words(check)) for check in reported if check.label == statement.label
        )
        name = f"{{prf:ref}}`{statement.label}` {statement.title}".strip()
        searched = ""
        if statement.label in hardest:
            found = hardest[statement.label]
            words = f"random {found.random:.2g}, hardest {found.hardest:.2g}: "
            searched = _unbroken(words + verdict(found.hardest))
        lines.append(f"| {name} | {statement.source} | {counts} | {cells} | {searched} |")
    return "\n".join(lines)


def _counted(number: int, kind: str) -> str:
    """Such as "1 bound" or "2 equalities"."""
    several = {"equality": "equalities"}.get(kind, f"{kind}s")
    return f"{number} {kind if number == 1 else several}"


def _unbroken(text: str) -> str:
    """On one line whatever the width."""
    return text.replace(" ", "\N{NO-BREAK SPACE}").replace("-", "\N{NON-BREAKING HYPHEN}")


def _words(check: Check) -> str:
    count = f"{check.instances:,} instance" + "s" * (check.instances != 1)
    if check.kind == "identity":
        return f"{count}, off by {check.worst:.1e}"
    worst = "no positive bound" if math.isnan(check.worst) else f"ratio {check.worst:.3g}"
    return f"{count}, {worst}"


def _marks(tree: ast.AST) -> list[ast.Call]:
    """Calls ``pytest.mark.theorem(...)``, as decorators or in ``pytestmark``."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "theorem"
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr == "mark"
    ]
