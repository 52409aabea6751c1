"""The reference of the library, from its docstrings; a public name without an entry is an error."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from sphinx.util import logging

from tools.ledger import labels_of_book
from tools.project import PACKAGE, ROOT

PARTS = ("convex", "rl", "nlhf")
# The link to a statement says itself what kind it is of.
LABEL = re.compile(
    r"(?:(?:Definition|Algorithm|Theorem|Proposition|Lemma|Corollary)\s+)?``((?:eq|thm|prop|lem|cor|def|fig|sec|alg)-[a-z0-9-]+)``"
)


def modules(root: Path) -> dict[str, list[str]]:
    """Public modules of the library with the public names that each defines, by their syntax.

    A method stands as ``Class.method``. Modules whose name begins with an underscore are private.
    """
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if "exercises" not in parts and not any(p.startswith("_") for p in name.split(".")):
            found[name] = _public(ast.parse(path.read_text("utf-8")))
    return found


def page(part: str) -> str:
    """The entries of one part of the book, or of ``ground``: all that belongs to no part.

    A package's entries stand under the name from which readers import them.
    """
    text = []
    for name, defined in modules(ROOT).items():
        parts = name.split(".")
        mine = parts[1] if len(parts) > 1 and parts[1] in PARTS else "ground"
        handed_on = _handed_on(ROOT, name)
        above = {item for parent in _packages(name) for item in _handed_on(ROOT, parent)}
        left = [item for item in defined if item.split(".")[0] not in above]
        if mine != part or not (left or handed_on):
            continue
        text += [f"## `{name}`", "", "```{eval-rst}", f".. automodule:: {name}"]
        text += ["   :members:", "   :undoc-members:", "   :show-inheritance:"]
        if above:
            text.append(f"   :exclude-members: {', '.join(sorted(above))}")
        text += ["```", ""]
    return "\n".join(text)


def missing(root: Path, documented: set[str]) -> list[str]:
    """Public names without an entry, under their module's name or that of a package above it."""
    return [
        f"{module}.{name}"
        for module, names in modules(root).items()
        for name in names
        if not documented & {f"{place}.{name}" for place in (module, *_packages(module))}
    ]


def check(root: Path, documented: set[str]) -> None:
    """Warn (so fail the build) about each public name without an entry."""
    for name in missing(root, documented):
        logging.getLogger(__name__).warning("the API reference has no entry for %s", name)


def link_labels(
    app: object, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn the book's labels in a docstring into links to the equation or the theorem."""
    known = labels_of_book(ROOT)
    lines[:] = [LABEL.sub(lambda found: _link(found[1], known), line) for line in lines]


def _link(label: str, known: dict[str, str]) -> str:
    role = {"equation": "eq", "statement": "prf:ref", "target": "ref"}.get(known.get(label, ""))
    return f":{role}:`{label}`" if role else f"``{label}``"


def _packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _handed_on(root: Path, module: str) -> list[str]:
    """The names in ``__all__`` of a package."""
    path = root.joinpath(*module.split("."), "__init__.py")
    for node in ast.parse(path.read_text("utf-8")).body if path.exists() else []:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _public(tree: ast.Module) -> list[str]:
    names = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            names.append(node.name)
            if isinstance(node, ast.ClassDef):
                names += [
                    f"{node.name}.{item.name}"
                    for item in node.body
                    if isinstance(item, ast.FunctionDef) and not item.name.startswith("_")
                ]
    return names
